"""Textbooks: what ships, what a user may add, and what is said of a malformed one."""

import hashlib
import re

import pytest

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.knowledge import SHIPPED, load_textbooks, parse_textbook
from hjepa_gfn.exemplary.phrases import parse_plan

IDS = {
    "rationality": ["fulfil-the-mission", "parts-in-order", "no-detours", "right-distance"],
    "epistemology": ["right-target", "left-is-left", "use-your-eyes", "explore-first", "state-your-ground"],
    "physics": ["walls-stand", "doors-first", "keys-that-fit", "one-at-a-time", "within-reach"],
    "ethics": ["leave-as-found", "put-aside", "take-only-needed", "out-of-the-way"],
    "design": ["known-actions", "within-sight", "step-budget"],
}
BOOK = (
    "---\ndiscipline: manners\norder: 0\n---\n# Manners\n\n"
    "## be-kind\n\n**Say\nthank you.**\n\nBecause.\n\n### More\n\nYes.\n"
)


def test_the_shipped_textbooks():
    books = load_textbooks()
    assert {book.discipline: [p.id for p in book.principles] for book in books} == IDS
    assert [book.discipline for book in books] == list(IDS)
    for book in books:
        assert book.sha == hashlib.sha256(book.text.encode()).hexdigest()[:16]
        for principle in book.principles:
            assert principle.statement.endswith(".") and "*" not in principle.statement and len(principle.statement) < 160
            assert "*Violation.*" in principle.body and "*Cure.*" in principle.body, principle.id


def test_the_plans_that_the_textbooks_give_as_examples_can_be_read():
    plans = 0
    for book in load_textbooks():
        for principle in book.principles:
            cure = " ".join(principle.body.partition("*Cure.*")[2].split())
            for plan in re.findall(r"`([^`]+\.)`", cure):
                parse_plan(plan)
                plans += 1
    assert plans > 15


def test_what_a_textbook_holds():
    book = parse_textbook(BOOK).textbook
    assert (book.discipline, book.text) == ("manners", BOOK)
    (principle,) = book.principles
    assert principle.id == "be-kind" and principle.statement == "Say thank you."
    assert principle.body == "Because.\n\n### More\n\nYes."


def test_headings_in_code_blocks_are_no_principles():
    book = parse_textbook(BOOK + "\n```\n## not-this\n```\n\n## but-this\n\nIs one.\n").textbook
    assert [p.id for p in book.principles] == ["be-kind", "but-this"]


def test_a_discipline_is_added_by_a_file_or_a_folder(tmp_path):
    file = tmp_path / "x.md"
    file.write_text(BOOK)
    assert [book.discipline for book in load_textbooks([file])] == ["manners", *IDS]  # its order is 0
    file.write_text(BOOK.replace("order: 0\n", ""))
    assert [book.discipline for book in load_textbooks(tmp_path)] == [*IDS, "manners"]
    chosen = load_textbooks([str(file)], disciplines=["manners", "physics"])
    assert [book.discipline for book in chosen] == ["manners", "physics"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" \n", "line 1: the textbook is empty"),
        ("# Manners\n\n## be-kind\n\nYes.\n", "line 1: no front matter"),
        ("---\ndiscipline: manners\n# Manners\n", "line 1: the front matter does not end"),
        ("---\norder: 3\n---\n## be-kind\n\nYes.\n", "line 3: the front matter names no discipline"),
        ("---\ndiscipline: Good Manners\n---\n", "line 2: discipline 'Good Manners'"),
        ("---\ndiscipline: manners\ndiscipline: m\n---\n", "line 3: field 'discipline' is there twice"),
        ("---\ndiscipline: manners\norder: first\n---\n", "line 3: order 'first'"),
        ("---\ndiscipline: manners\ncolour: red\n---\n", "line 3: 'colour: red' is no field"),
        ("---\ndiscipline: manners\n---\n# Manners\n\n### be-kind\n\nYes.", "line 8: no principle"),
        (BOOK.replace("be-kind", "Be kind"), "line 7: 'Be kind' is no principle's id"),
        (BOOK.replace("be-kind", ""), "line 7: '' is no principle's id"),
        (BOOK + "\n## be-kind\n\nTwice.\n", "line 18: principle 'be-kind' is there twice"),
        (BOOK + "\n## be-on-time\n \n", "line 18: 'be-on-time' has no statement"),
        (BOOK + "\n## be-on-time\n\n### Why\n\nSo.\n", "line 18: 'be-on-time' has no statement"),
    ],
)
def test_malformed_textbooks_are_refused_with_file_and_line(tmp_path, text, message):
    file = tmp_path / "manners.md"
    file.write_text(text)
    with pytest.raises(UserError, match=rf"manners\.md: {re.escape(message)}"):
        load_textbooks([file])


def test_a_textbook_must_be_utf_8(tmp_path):
    file = tmp_path / "manners.md"
    file.write_bytes(BOOK.encode() + "\nCaf\xe9\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"manners\.md: line 18 is not UTF-8"):
        load_textbooks([file])


def test_what_two_files_claim_is_refused(tmp_path):
    file = tmp_path / "mine.md"
    file.write_text(BOOK.replace("manners", "ethics"))
    with pytest.raises(UserError, match=r"4_ethics\.md: discipline 'ethics' is that of .*mine\.md too"):
        load_textbooks([file])
    file.write_text(BOOK.replace("be-kind", "put-aside").replace("order: 0", "order: 9"))
    with pytest.raises(UserError, match=r"mine\.md: line 7: principle 'put-aside' is in .*4_ethics\.md: line \d+ too"):
        load_textbooks([file])


def test_missing_files_and_unknown_disciplines(tmp_path):
    with pytest.raises(UserError, match=r"none\.md: cannot read the textbook"):
        load_textbooks([tmp_path / "none.md"])
    with pytest.raises(UserError, match="holds no textbook"):
        load_textbooks([tmp_path])
    with pytest.raises(UserError, match="no textbook of 'cooking': choose from rationality, epistemology"):
        load_textbooks(disciplines=["cooking"])


def test_the_files_lie_where_package_data_is_taken_from():
    assert sorted(file.name for file in SHIPPED.glob("*.md")) == [
        "1_rationality.md", "2_epistemology.md", "3_physics.md", "4_ethics.md", "5_design.md"
    ]  # fmt: skip
