"""The built site, in the folder that PYFLOW_SITE names: ``sphinx-build -W docs FOLDER``."""

import os
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from session.chromium import Chromium

import pyflow
import pyflow.session.cli
import pyflow.units.cli
from pyflow.io import ReaderOptions
from pyflow.session import SessionConfig

if "PYFLOW_SITE" not in os.environ:
    pytest.skip("PYFLOW_SITE does not name a built site; .ci/docs builds one", allow_module_level=True)
SITE = Path(os.environ["PYFLOW_SITE"]).resolve()


class Page(HTMLParser):
    """What a page links to, and where in it links may lead."""

    def __init__(self, path):
        super().__init__()
        self.links, self.ids = set(), {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.links |= {found[name] for name in ("href", "src") if found.get(name)}
        self.ids |= {found["id"]} if "id" in found else set()


@pytest.fixture(scope="module")
def pages():
    return {path: Page(path) for path in sorted(SITE.rglob("*.html"))}


def test_links_lead_somewhere(pages):
    lost = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages[target].ids if target in pages else {""}
            if not target.is_file() or unquote(parts.fragment) not in known:
                lost.append(f"{path.relative_to(SITE)}: {link}")
    assert not lost


def test_types_are_written_as_in_the_code(pages):
    """An alias such as ArrayLike by its name, not as the union of all that it stands for."""
    assert not [path.name for path in pages if "_NestedSequence" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_is_wider_than_the_window(pages, width):
    wide = {}
    with Chromium(width) as browser:
        for path in pages:
            browser.open(path)
            if (found := browser.run("document.documentElement.scrollWidth")) > width:
                wide[path.name] = found
    assert not wide


def test_what_is_made_from_the_code_is_all_there(pages):
    options, commands = (pages[SITE / "reference" / f"{name}.html"].ids for name in ("options", "commands"))
    for name, model in {"": pyflow.OFOptions, "session.": SessionConfig, "io.": ReaderOptions}.items():
        assert {f"pyflow.{name}{model.__name__}.{field}" for field in model.model_fields} <= options
    for module in (pyflow.session.cli, pyflow.units.cli):
        (subcommands,) = (action.choices for action in module._parser()._actions if isinstance(action.choices, dict))
        assert {parser.prog.replace(" ", "-") for parser in subcommands.values()} <= commands
    functions = pages[SITE / "reference" / "api" / "pyflow.html"].ids
    assert {f"pyflow.{name}" for name in pyflow.__all__} <= functions
