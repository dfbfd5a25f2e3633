"""Tables for notebooks are HTML in which names are text."""

from html.parser import HTMLParser

from jaxopt_lite.tables import html_table


class Cells(HTMLParser):
    """The texts of the headings and cells, and all tags."""

    def __init__(self, html: str):
        super().__init__()
        self.cells, self.tags = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag in ("td", "th", "caption"):
            self.cells.append("")

    def handle_data(self, data):
        if data.strip():
            self.cells[-1] += data


def test_cells_are_text_and_numbers_have_commas():
    html = html_table("<i>t</i>", ("a&b", ""), [("<script>", 1234567), (None, 0.000123456)])
    parsed = Cells(html)
    assert parsed.cells == ["<i>t</i>", "a&b", "", "<script>", "1,234,567", "", "0.000123"]
    assert "script" not in parsed.tags and "i" not in parsed.tags


def test_without_headings_there_is_no_row_of_them():
    assert "th" not in Cells(html_table("t", ("", ""), [("a", 1)])).tags
