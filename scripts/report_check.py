"""Opens a report in a headless browser: nothing runs, nothing is fetched, nothing is too wide.

    python3 scripts/report_check.py target/reward-model/report.html [FOLDER FOR SCREENSHOTS]

Needs `pip install playwright` and a Chromium: the system's (`apt install chromium`), or the one of
`playwright install chromium`. Without them it says so and checks nothing.
"""

import pathlib
import shutil
import sys

VIEWS = [
    ("wide-light", 1280, "light"),
    ("wide-dark", 1280, "dark"),
    ("narrow-light", 375, "light"),
    ("narrow-dark", 375, "dark"),
]
# Marks that a script of a hostile text would leave, in tests/report.rs and elsewhere.
SCRIPT_RAN = "() => document.title.includes('pwned') || 'pwned' in window"
TOO_WIDE = "() => document.documentElement.scrollWidth > window.innerWidth"
FOREIGN = """() => [...document.querySelectorAll(
    'script, iframe, object, embed, link, form, img:not([src^="data:"]), [src]:not([src^="data:"])'
)].map(element => element.outerHTML)"""
HANDLERS = """() => [...document.querySelectorAll('*')].filter(element =>
    [...element.attributes].some(attribute =>
        attribute.name.startsWith('on') || /^\\s*javascript:/i.test(attribute.value))
).map(element => element.outerHTML)"""


def check(page, url, width):
    problems, requests = [], []
    page.on("console", lambda message: problems.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: problems.append(f"script: {error}"))
    page.on("request", lambda request: requests.append(request.url))
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(url)
    if page.evaluate(SCRIPT_RAN):
        problems.append("a text of the data ran as a script")
    problems += [f"fetched: {request}" for request in requests if request != url]
    problems += [f"not a part of the page: {found}" for found in page.evaluate(FOREIGN)]
    problems += [f"a handler: {found}" for found in page.evaluate(HANDLERS)]
    if page.evaluate(TOO_WIDE):
        problems.append("wider than the screen")
    if page.locator("section").count() == 0:
        problems.append("the page has no section")
    return problems


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        print("skipped: there is no playwright; pip install playwright")
        return
    report = pathlib.Path(sys.argv[1]).resolve()
    url = report.as_uri()
    screenshots = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else None
    browser_path = shutil.which("chromium") or shutil.which("chromium-browser")
    failed = False
    with sync_playwright() as playwright:
        try:
            # Chromium refuses its sandbox to root, as whom containers run.
            browser = playwright.chromium.launch(
                executable_path=browser_path, args=["--no-sandbox"]
            )
        except Error as error:
            print(f"skipped: no Chromium starts; apt install chromium ({str(error).splitlines()[0]})")
            return
        for name, width, scheme in VIEWS:
            context = browser.new_context(color_scheme=scheme)
            page = context.new_page()
            problems = check(page, url, width)
            for problem in problems:
                print(f"{name}: {problem}")
            failed |= bool(problems)
            if screenshots:
                screenshots.mkdir(parents=True, exist_ok=True)
                page.screenshot(path=screenshots / f"{name}.png", full_page=True)
            context.close()
        browser.close()
    if failed:
        sys.exit(1)
    print(f"{report}: nothing runs, nothing is fetched, nothing is too wide, in {len(VIEWS)} views")


if __name__ == "__main__":
    main()
