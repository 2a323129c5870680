#!/usr/bin/env python3
"""A report's page in a real browser: it sorts, filters, opens cells by keyboard, hands out its data, asks nothing of a
network, complains of nothing, and fits screens, paper and the dark.

    pip install playwright          # the package alone; the browser is the system's Chromium
    python tests/browser.py results/smoke.html target/screenshots

Pictures go to the folder. Exits with 1 where a promise is broken, and where no browser is there; with --optional it then
says so and exits with 0.
"""

import argparse
import csv
import io
import pathlib
import shutil
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SIZES = {"wide": (1280, 900), "tablet": (820, 1100), "phone": (390, 844)}


def missing(why, optional):
    print(f"the page was not tried in a browser: {why}")
    sys.exit(0 if optional else 1)


def expect(is_so, promise):
    if not is_so:
        raise AssertionError(promise)
    print(f"ok  {promise}")


def column(page, index):
    cells = page.locator(f"#cells-table tbody tr > *:nth-child({index + 1})")
    return [text.strip() for text in cells.all_inner_texts()]


def sorts(page):
    headings = page.locator("#cells-table thead th")
    names = [text.strip() for text in headings.all_inner_texts()]
    mean = names.index("mean")
    before = column(page, mean)
    button = headings.nth(mean).locator("button")
    button.focus()
    page.keyboard.press("Enter")
    numbers = [float(text) for text in column(page, mean) if text != "–"]
    expect(numbers == sorted(numbers), "Enter on a heading sorts by it, upward")
    expect(headings.nth(mean).get_attribute("aria-sort") == "ascending", "and says so to those who hear")
    page.keyboard.press("Space")
    numbers = [float(text) for text in column(page, mean) if text != "–"]
    expect(numbers == sorted(numbers, reverse=True), "Space sorts downward")
    expect(sorted(column(page, mean)) == sorted(before), "no line is lost")
    absent = [text == "–" for text in column(page, mean)]
    expect(absent == sorted(absent), "what is absent stands last")


def filters(page):
    lines = page.locator("#cells-table tbody tr")
    n_lines = lines.count()
    label = page.locator("#cells-table tbody tr th a").first.inner_text()
    page.locator("#filter").fill(label)
    visible = [line for line in range(n_lines) if lines.nth(line).is_visible()]
    expect(0 < len(visible), f"the filter finds `{label}`")
    expect(all(label.lower() in lines.nth(line).inner_text().lower() for line in visible), "and shows nothing else")
    expect(f"{len(visible)} of {n_lines}" in page.locator("#filter-count").inner_text(), "and counts")
    page.locator("#filter").fill("no such label anywhere")
    expect(not any(lines.nth(line).is_visible() for line in range(n_lines)), "what is nowhere is found nowhere")
    page.locator("#filter").fill("")
    expect(all(lines.nth(line).is_visible() for line in range(n_lines)), "an empty filter shows all")


def opens_by_keyboard(page):
    first = page.locator("details.cell").first
    first.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(first.get_attribute("open") is not None, "Enter opens a cell")
    expect(first.locator(".settings").is_visible(), "and its settings can be read")
    page.keyboard.press("Enter")
    expect(first.get_attribute("open") is None, "Enter closes it")
    link = page.locator("#cells-table tbody tr th a").last
    target = page.locator(link.get_attribute("href"))
    link.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("target => document.querySelector(target).open", arg=link.get_attribute("href"))
    expect(target.get_attribute("open") is not None, "a link of the table opens its cell")
    focused = page.evaluate("document.activeElement.closest('details.cell')?.id")
    expect(f"#{focused}" == link.get_attribute("href"), "and the keyboard goes on from there")
    page.locator("#open-all").focus()
    page.keyboard.press("Enter")
    expect(page.locator("details.cell:not([open])").count() == 0, "all cells open")
    page.locator("#close-all").click()
    expect(page.locator("details.cell[open]").count() == 0, "all cells close")


def reaches_everything_by_tab(page, address):
    # A new document: the keyboard begins at its top.
    page.goto("about:blank")
    page.goto(address)
    page.keyboard.press("Tab")
    expect(page.evaluate("document.activeElement.className") == "skip", "the first Tab leads past the top")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    expect(outline != "none", "what has the keyboard can be seen")
    unnamed = page.evaluate(
        """[...document.querySelectorAll('a, button, input, svg[role=img], img, [role=region]')].filter(element =>
        !(element.innerText || element.getAttribute('aria-label') || element.getAttribute('alt')
          || element.getAttribute('aria-labelledby') || element.labels?.length)).length"""
    )
    expect(unnamed == 0, "everything that can be used or seen has a name")


def hands_out_data(page, folder):
    for ending in ("csv", "json", "parquet"):
        with page.expect_download() as waiting:
            page.locator(f"ul.downloads a[download$='.{ending}']").click()
        path = folder / waiting.value.suggested_filename
        waiting.value.save_as(path)
        data = path.read_bytes()
        expect(len(data) > 0, f"{ending} comes out of the page")
        if ending == "csv":
            lines = list(csv.DictReader(io.StringIO(data.decode())))
            expect(len(lines) == page.locator("#cells-table tbody tr").count(), "and has a line a cell")
            shown = {float(text) for text in column(page, len([name for name in lines[0] if name.startswith("axis.")])) if text != "–"}
            scale = 100 if lines[0]["unit"] == "fraction" else 1
            digits = 1 if lines[0]["unit"] == "fraction" else 3
            own = {round(scale * float(line["mean"]), digits) for line in lines if line["mean"]}
            expect(all(min(abs(a - b) for b in own) < 0.11 for a in shown), "with the means of the table")
        if ending == "parquet":
            expect(data[:4] == data[-4:] == b"PAR1", "and is Parquet")


def fits(page, name):
    width = page.evaluate("document.documentElement.scrollWidth")
    expect(width <= page.viewport_size["width"], f"{name}: nothing is wider than the screen")


def pictures(browser, address, folder, watch):
    for scheme in ("light", "dark"):
        for name, (width, height) in SIZES.items():
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            page = watch(context.new_page())
            page.goto(address)
            fits(page, f"{name}, {scheme}")
            page.screenshot(path=folder / f"{name}-{scheme}.png", full_page=True)
            page.locator("details.cell summary").first.click()
            fits(page, f"{name}, {scheme}, a cell open")
            page.locator("#cells").screenshot(path=folder / f"{name}-{scheme}-cells.png")
            if (name, scheme) == ("wide", "light"):
                page.pdf(path=folder / "paper.pdf", format="A4", margin={side: "15mm" for side in ("top", "bottom", "left", "right")})
                expect((folder / "paper.pdf").stat().st_size > 0, "it prints")
            context.close()


def main():
    parser = argparse.ArgumentParser(description="Tries a page of `ablate report` in Chromium.")
    parser.add_argument("page", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path, help="where screenshots and downloads go")
    parser.add_argument("--optional", action="store_true", help="no browser is no failure")
    arguments = parser.parse_args()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("the Python package `playwright` is not installed", arguments.optional)
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        missing(f"none of {', '.join(NAMES)} is on the PATH", arguments.optional)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    complaints, requests = [], []

    def watch(page):
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        return page

    address = arguments.page.resolve().as_uri()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        page = watch(browser.new_page(viewport={"width": 1280, "height": 900}, accept_downloads=True))
        page.goto(address)
        sorts(page)
        filters(page)
        opens_by_keyboard(page)
        reaches_everything_by_tab(page, address)
        hands_out_data(page, arguments.folder)
        pictures(browser, address, arguments.folder, watch)
        plain = browser.new_context(java_script_enabled=False)
        page = watch(plain.new_page())
        page.goto(address)
        expect(page.locator("#cells-table tbody tr").first.is_visible(), "without scripts the table is there")
        page.locator("details.cell summary").first.click()
        expect(page.locator(".settings").first.is_visible(), "and cells open")
        browser.close()
    foreign = [url for url in requests if not url.startswith(("data:", "blob:", "about:")) and url.split("#")[0] != address]
    expect(not foreign, f"nothing is asked of a network or another file {foreign or ''}")
    expect(not complaints, f"the console is empty {complaints or ''}")
    print(f"all of it; pictures are in {arguments.folder}")


if __name__ == "__main__":
    try:
        main()
    except AssertionError as broken:
        sys.exit(f"BROKEN: {broken}")
