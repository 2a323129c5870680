# The front door: each recipe is one line you could type yourself.

set positional-arguments

ablate := "cargo run --release --quiet --"

# List the recipes
default:
    @just --list

# Compute what is missing of an experiment, then print its table
sweep file *arguments:
    {{ablate}} sweep "$@"

# Compute the file's base recipe alone
run file *arguments:
    {{ablate}} run "$@"

# Say what a sweep would compute
plan file *arguments:
    {{ablate}} plan "$@"

# Count what is stored, missing and failed
status file *arguments:
    {{ablate}} status "$@"

# Print the ablation table from what is stored
table file *arguments:
    {{ablate}} table "$@"

# Name every setting in which two results, files or presets differ
diff first second *arguments:
    {{ablate}} diff "$@"

# Look on while a sweep runs in another terminal
watch file *arguments:
    {{ablate}} watch "$@"

# The example under results/, half an hour on two cores with CIFAR-10 in data/
example:
    {{ablate}} sweep experiments/crop_and_colour.ron
    {{ablate}} report experiments/crop_and_colour.ron --no-images

# Write the experiment as one HTML page with its figures beside it
report file *arguments:
    {{ablate}} report "$@"

# Say why each run of an experiment, or one key, is stored or not
explain *arguments:
    {{ablate}} explain "$@"

# Compute a share of what is stored again and compare
verify file *arguments:
    {{ablate}} verify "$@"

# Look whether every file of the store is what it should be
check-store *arguments:
    {{ablate}} check "$@"

# Show what could go from the store; --apply removes it
gc *arguments:
    {{ablate}} gc "$@"

# Write a picture of images and their two views
show-views file *arguments:
    {{ablate}} show-views "$@"

# The built-in example, under a minute on two cores
smoke:
    {{ablate}} sweep experiments/smoke.ron

# What this machine can compute on, and how to get what is missing
doctor *arguments:
    {{ablate}} doctor "$@"

# Formatting, lints, tests
check:
    cargo fmt --check
    cargo clippy --release --all-targets -- -D warnings
    cargo test --release

# The tests
test *arguments:
    cargo test --release {{arguments}}

# The tests, the slow ones too
test-all:
    ABLATE_SLOW_TESTS=1 cargo test --release

# Bytes made to harm, at every reader: a minute a target
fuzz *arguments:
    python3 fuzz/run.py {{arguments}}

# Speed of the parts, of thousands of runs and of a training: see bench-parts and bench-whole
bench *arguments:
    cargo bench --bench parts --bench scale
    python3 benches/whole.py "$@"

# Speed of the parts; `just bench-parts step` for some of them, `--ignored` for the slow ones
bench-parts *arguments:
    cargo bench --bench parts -- "$@"

# Time and memory of the commands with thousands of runs
bench-scale:
    cargo bench --bench scale

# Speed of a training beside PyTorch's on the CPU: --opponent simclr_torch.py, --data DIR, --python, --rounds
bench-whole *arguments:
    python3 benches/whole.py "$@"

# Where a step goes: every operation and the share of its floor
bench-operations *arguments:
    {{ablate}} bench kernels --device cpu "$@"

# Check and measure the built program on a machine with a GPU, 9 minutes: --opponent, --data, --quick, --list
gpu-check *arguments:
    python3 benches/gpu_check.py "$@"

# The run to 90 % k-NN on a GPU, 9 minutes a sitting: --data cifar10.tar.xz
gpu-record *arguments:
    python3 benches/gpu_record.py "$@"

# Licences and advisories of the dependencies (needs cargo-deny)
deny:
    cargo deny check
