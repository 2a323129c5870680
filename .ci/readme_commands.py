#!/usr/bin/env python3
"""Runs every command of the README's `sh` blocks. Of those on a data set that is not here the quick ones run with --smoke,
the others are planned with it: a smoke run of the CIFAR stem takes minutes on two cores."""
import re
import subprocess
import sys
import time

text = open("README.md", encoding="utf-8").read()
blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.M | re.S)
commands = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
# The tests have had a step of their own; fetching the source is how one got here.
skipped = ("#", "cargo test", "just test", "git clone", "cd ", "just check")
ran = 0
for command in commands:
    if not command or command.startswith(skipped):
        continue
    takes_file = re.search(r"\b(sweep|run|plan|status|table|report|watch|show-views)\b.*\.ron\b", command)
    if takes_file and "smoke.ron" not in command and "--smoke" not in command:
        command += " --smoke"
        if "lightly" not in command:
            command = command.replace(" sweep ", " plan ")
    begun = time.time()
    print(f"$ {command}", flush=True)
    done = subprocess.run(command, shell=True, check=False)
    print(f"  exit {done.returncode}, {time.time() - begun:.1f} s", flush=True)
    if done.returncode != 0:
        sys.exit(f"the README's command failed: {command}")
    ran += 1
if ran == 0:
    sys.exit("the README has no command to run")
