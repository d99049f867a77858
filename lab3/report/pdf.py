"""The blocks of `lab3.report.pages` as a PDF, laid out by ReportLab: no browser, no system library, no network.

In: blocks. Out: the bytes of a PDF on A4, with page numbers, an outline, and text that can be searched and copied.
Fonts are those that matplotlib brings, embedded; the same blocks give the same bytes.
"""

import io
import tempfile
from functools import cache
from pathlib import Path
from xml.sax.saxutils import escape

import matplotlib
from PIL import Image as Pictures
from pygments.lexers import PythonLexer
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import inch, mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import (
    BaseDocTemplate,
    CondPageBreak,
    Frame,
    Image,
    KeepTogether,
    ListFlowable,
    ListItem,
    PageTemplate,
    Paragraph,
    Spacer,
    XPreformatted,
)
from reportlab.platypus import Table as Grid

from lab3.common.files import content_key
from lab3.report.pages import (
    SIZE,
    Code,
    Drawn,
    Figure,
    Gap,
    Heading,
    Table,
    Text,
    Title,
    Verdict,
    code_style,
    formula,
    markdown,
    not_shown,
    numbered,
    picture,
)

MARGIN = 21 * mm
WIDTH, HEIGHT = A4[0] - 2 * MARGIN, A4[1] - 2 * MARGIN
COLUMNS = 104  # characters in a line of code
INK, SOFT, LINE, PANEL = HexColor("#1c1e21"), HexColor("#595f69"), HexColor("#c9cdd3"), HexColor("#f6f7f9")
OUTCOMES = {"passed": ("Passed", "#14692f"), "failed": ("Not passed", "#b3261e"), "missing": ("Missing", "#855200")}


def pdf(blocks, title, author=""):
    """The report as the bytes of a PDF.

    Args:
        blocks: as `pages.html` takes them.
        title, author: for the file's own description; the title also stands at the foot of each page.
    """
    _fonts()
    out = io.BytesIO()
    document = _Document(out, title, author)
    story, together = [], []
    for number, block in numbered(blocks):
        together += FLOWABLES[type(block)](number, block)
        if isinstance(block, Heading | Verdict | Gap):  # stays with what follows
            continue
        if isinstance(block, Code):  # may run over pages, if not from a page's last lines
            *above, code = together
            needed = sum(one.wrap(WIDTH, HEIGHT)[1] + one.getSpaceBefore() + one.getSpaceAfter() for one in above)
            story += [CondPageBreak(min(needed + min(code.wrap(WIDTH, HEIGHT)[1], 40 * mm), HEIGHT)), *together]
        elif isinstance(block, Text):
            story += [CondPageBreak(25 * mm), *together]
        else:
            story.append(KeepTogether(together))
        together = []
    document.build(story + together)
    return out.getvalue()


class _Document(BaseDocTemplate):
    """A4 with a line at the foot of each page, and an outline made of the headings."""

    def __init__(self, out, title, author):
        super().__init__(out, pagesize=A4, title=title, author=author, creator="lab3", lang="en", invariant=1)
        frame = Frame(MARGIN, MARGIN, WIDTH, HEIGHT, leftPadding=0, rightPadding=0, topPadding=0, bottomPadding=0)
        self.addPageTemplates(PageTemplate("page", [frame], onPage=self.foot))

    def foot(self, canvas, _):
        canvas.setFillColor(SOFT)
        canvas.setFont("Text", 8.5)
        canvas.drawString(MARGIN, MARGIN - 9 * mm, self.title)
        canvas.drawRightString(A4[0] - MARGIN, MARGIN - 9 * mm, str(canvas.getPageNumber()))

    def afterFlowable(self, flowable):
        if hasattr(flowable, "outline"):
            number, text, level = flowable.outline
            self.canv.bookmarkPage(number)
            self.canv.addOutlineEntry(f"{number} {text}", number, level, closed=False)


@cache
def _fonts():
    """Register the fonts: STIX, a Times, for text, DejaVu for code and for what STIX lacks."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    for family, (names, suffixes) in {
            "Text": ("STIXGeneral", ("", "Bol", "Italic", "BolIta")),
            "Wide": ("DejaVuSans", ("", "-Bold", "-Oblique", "-BoldOblique")),
            "Mono": ("DejaVuSansMono", ("", "-Bold", "-Oblique", "-BoldOblique"))}.items():
        own = [f"{family}{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")]
        for name, suffix in zip(own, suffixes):
            pdfmetrics.registerFont(TTFont(name, folder / f"{names}{suffix}.ttf"))
        pdfmetrics.registerFontFamily(family, *own)
    pdfmetrics.registerFont(UnicodeCIDFont("MSung-Light"))  # Chinese, from the reader's own fonts


@cache
def _has(font, character):
    return ord(character) in pdfmetrics.getFont(font).face.charToGlyph


def _safe(text, font="Text"):
    """Text as ReportLab's markup: escaped, and characters that the font lacks in a font that has them."""
    parts, last = [], None
    for character in text:
        if ord(character) < 32 and character not in "\n\t":
            character = "\ufffd"
        others = (font, "Wide") if ord(character) < 0x10000 else (font,)
        found = next((name for name in others if character in "\n\t" or _has(name, character)), "MSung-Light")
        if found == "MSung-Light" and ord(character) > 0xffff:
            character, found = "\ufffd", "Wide"
        if found != last:
            parts.append([found, ""])
            last = found
        parts[-1][1] += character
    return "".join(escape(run) if name == font else f'<font name="{name}">{escape(run)}</font>' for name, run in parts)


def _style(**changes):
    return ParagraphStyle("", **({"fontName": "Text", "fontSize": SIZE, "leading": 14, "textColor": INK,
                                  "spaceAfter": 6, "linkUnderline": True} | changes))


def _title(_, block):
    return [Paragraph(_safe(block.text), _style(fontName="Text-Bold", fontSize=21, leading=26, spaceAfter=5)),
            *(Paragraph(_safe(line), _style(textColor=SOFT, spaceAfter=0)) for line in block.lines), Spacer(0, 12)]


def _heading(number, block):
    size = {1: 15.5, 2: 12.5, 3: 11}[block.level]
    heading = Paragraph(
        f"{_safe(number)}&nbsp;&nbsp;{_safe(block.text)}" if number else _safe(block.text),
        _style(fontName="Text-Bold", fontSize=size, leading=size * 1.25, spaceBefore=size, spaceAfter=4))
    if block.level < 3:
        heading.outline = number, block.text, block.level - 1
    return [heading]


def _text(_, block):
    return _markdown(markdown().parse(block.text), block.folder)


def _markdown(tokens, folder=None):
    """Flowables of Markdown's tokens; what is not known here is shown as plain text."""
    flowables, place = [], 0
    while place < len(tokens):
        token = tokens[place]
        if token.type in ("bullet_list_open", "ordered_list_open"):
            end = _closing(tokens, place)
            items, inner = [], place + 1
            while inner < end:
                stop = _closing(tokens, inner)
                items.append(ListItem(_markdown(tokens[inner + 1:stop], folder) or [Spacer(0, 0)]))
                inner = stop + 1
            bullet = {"bulletType": "bullet", "start": "•"} if token.type[0] == "b" else {"bulletType": "1"}
            flowables.append(ListFlowable(items, leftIndent=16, bulletFontName="Text", bulletFontSize=10.5, **bullet))
            place = end
        elif token.type == "inline":
            heading = tokens[place - 1].type == "heading_open"
            words, pictures = _inline(token, folder)
            if words.strip():
                flowables.append(Paragraph(words, _style(
                    fontName="Text-Bold" if heading else "Text", keepWithNext=int(heading))))
            flowables += pictures
        elif token.type == "table_open":
            end = _closing(tokens, place)
            flowables += _markdown_table(tokens[place:end], folder)
            place = end
        elif token.type == "math_block":
            drawn = formula(token.content)
            flowables.append(_image(drawn, "CENTER") if drawn else _plain(not_shown(token, folder)))
        elif token.type in ("fence", "code_block"):
            flowables += _code("", Code(token.content)) if token.info == "python" else [_plain(token.content)]
        elif token.type == "html_block":
            flowables.append(Paragraph(_safe(token.content), _style()))
        place += 1
    return flowables


def _closing(tokens, place):
    """Where the token that closes the one at `place` stands."""
    level = tokens[place].level
    return next(i for i in range(place + 1, len(tokens)) if tokens[i].level == level and tokens[i].nesting == -1)


def _markdown_table(tokens, folder):
    """The flowables of a table's tokens; the first row is its head."""
    rows, cell = [], _style(fontSize=9.5, leading=12, spaceAfter=0)
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            look = cell if len(rows) > 1 else cell.clone("head", textColor=SOFT, fontName="Text-Bold")
            rows[-1].append(Paragraph(_inline(token, folder)[0], look))
    return [_grid(rows, True), Spacer(0, 10)]


def _image(drawn, place="LEFT"):
    """Something drawn, as wide as it is where there is room."""
    scale = min(1, WIDTH / drawn.width, 0.82 * HEIGHT / drawn.height)
    image = Image(_on_white(drawn.png), scale * drawn.width, scale * drawn.height)
    image.hAlign = place
    return image


def _on_white(png):
    """A PNG without transparency, as a file."""
    found = Pictures.open(io.BytesIO(png)).convert("RGBA")
    flat, white = io.BytesIO(), Pictures.new("RGBA", found.size, "white")
    Pictures.alpha_composite(white, found).convert("RGB").save(flat, format="PNG")
    flat.seek(0)
    return flat


@cache
def _scratch():
    return tempfile.TemporaryDirectory(prefix="lab3-report-", ignore_cleanup_errors=True)


def _file(png):
    """A file that holds a PNG: in a paragraph, ReportLab takes pictures from files alone."""
    path = Path(_scratch().name) / f"{content_key([png])}.png"
    if not path.is_file():
        path.write_bytes(_on_white(png).getvalue())
    return path


def _inline(token, folder):
    """A paragraph's tokens: ReportLab's markup, and the flowables of its pictures."""
    marks = {"strong_open": "<b>", "strong_close": "</b>", "em_open": "<i>", "em_close": "</i>", "link_close": "</a>",
             "softbreak": " ", "hardbreak": "<br/>"}
    parts, pictures = [], []
    for child in token.children:
        drawn = picture(child.attrs["src"], folder) if child.type == "image" else None
        if child.type.startswith("math") and (drawn := formula(child.content)):
            parts.append(f'<img src="{_file(drawn.png)}" width="{drawn.width:.2f}" height="{drawn.height:.2f}" '
                         f'valign="{-drawn.depth:.2f}"/>')
        elif drawn:
            caption = [_caption("", child.content)] if child.content else []
            pictures.append(KeepTogether([_image(drawn), *caption]))
        elif child.type == "image" or child.type.startswith("math"):
            parts.append(_safe(not_shown(child, folder)))
        elif child.type == "code_inline":
            parts.append(f'<font name="Mono" size="8.6">{_safe(child.content, "Mono")}</font>')
        elif child.type == "link_open":
            parts.append(f'<a href="{escape(child.attrs["href"], {chr(34): "&quot;"})}" color="#0b57b0">')
        else:
            parts.append(marks.get(child.type) or _safe(child.content))
    return "".join(parts), pictures


def _box(**changes):
    return _style(**({"fontName": "Mono", "fontSize": 7.1, "leading": 9.7, "backColor": PANEL, "borderColor": LINE,
                      "borderWidth": 0.5, "borderPadding": (5, 6, 5, 6), "leftIndent": 6, "rightIndent": 6,
                      "spaceBefore": 8, "spaceAfter": 12} | changes))


def _plain(text):
    return XPreformatted("\n".join(_safe(line, "Mono") for line in _folded([[(None, text)]])), _box())


def _code(_, block):
    """Code with its colours; a line that is too long goes on in the next, after an arrow."""
    style = code_style()
    text = block.text.expandtabs(4).strip("\n")
    lines = [[]]
    for kind, value in PythonLexer(stripnl=False).get_tokens(text):
        for number, part in enumerate(value.split("\n")):
            if number:
                lines.append([])
            if part:
                lines[-1].append((style.style_for_token(kind), part))
    while lines and not lines[-1]:
        lines.pop()
    return [XPreformatted("\n".join(
        "".join(_coloured(look, part) for look, part in line) or " " for line in _wrapped(lines)), _box())]


def _coloured(look, text):
    text = _safe(text, "Mono")
    text = f"<i>{text}</i>" if look and look["italic"] else text
    text = f"<b>{text}</b>" if look and look["bold"] else text
    return f'<font color="#{look["color"]}">{text}</font>' if look and look["color"] else text


def _wrapped(lines):
    """Lines of (look, text) cut at `COLUMNS` characters."""
    for line in lines:
        row, used = [], 0
        for look, text in line:
            while used + len(text) > COLUMNS:
                row.append((look, text[:COLUMNS - used]))
                yield row
                text = text[COLUMNS - used:]
                row, used = [(None, "  ↪ ")], 4
            row.append((look, text))
            used += len(text)
        yield row


def _folded(lines):
    """Plain text, a string a line, cut likewise."""
    parts = [[(None, part)] for line in lines for _, text in line for part in text.rstrip("\n").split("\n")]
    return ["".join(text for _, text in row) for row in _wrapped(parts)]


def _verdict(_, block):
    word, colour = OUTCOMES[block.outcome]
    style = _style(fontSize=9.5, leading=12.5, spaceAfter=3)
    head = f'<font color="{colour}"><b>{word}.</b></font>'
    if "\n" not in block.message:
        return [Paragraph(f"{head} {_safe(block.message)}", style)]
    return [Paragraph(head, _style(fontSize=9.5, spaceAfter=0)), _plain(block.message)]


def _gap(_, block):
    return [Paragraph(f'<font color="#855200"><b>To fill in.</b></font> {_safe(block.text)}', _style(
        fontSize=9.8, leading=13, backColor=HexColor("#fff9ec"), borderColor=HexColor("#c9a35c"), borderWidth=0.6,
        borderPadding=6, leftIndent=6, rightIndent=6, spaceBefore=9, spaceAfter=9)), Spacer(0, 7)]


def _figure(number, block):
    size, width = Pictures.open(io.BytesIO(block.png)).size, block.width * inch
    image = _image(Drawn(block.png, width, width * size[1] / size[0]))
    return [Spacer(0, 4), image, _caption(number, block.caption), Spacer(0, 8)]


def _caption(number, text):
    return Paragraph(f"<b>{_safe(number)}.</b> {_safe(text)}" if number else _safe(text), _style(
        fontSize=9.3, leading=12, textColor=SOFT, spaceBefore=3, spaceAfter=5))


def _shared(wanted, whole):
    """Widths within a whole: narrow columns have what they want, the others share what is left evenly."""
    widths, left = {}, whole
    for place, width in sorted(enumerate(wanted), key=lambda pair: pair[1]):
        widths[place] = min(width, left / (len(wanted) - len(widths)))
        left -= widths[place]
    return [widths[place] for place in range(len(wanted))]


def _table(number, block):
    cell = _style(fontSize=9.5, leading=12, spaceAfter=0)
    right, head = cell.clone("right", alignment=2), cell.clone("head", textColor=SOFT, fontName="Text-Bold")
    last = right if block.numbers else cell
    rows = [[Paragraph(_safe(str(text)), cell if place == 0 else last) for place, text in enumerate(row)]
            for row in block.rows]
    if block.header:
        rows.insert(0, [Paragraph(_safe(text), head if place == 0 or not block.numbers else
                                  head.clone("headright", alignment=2)) for place, text in enumerate(block.header)])
    above = [_caption(number, block.caption)] if block.caption else []
    return [*above, _grid(rows, bool(block.header)), Spacer(0, 10)]


def _grid(rows, header):
    """A table of paragraphs, its first row repeated on each page where it is a header."""
    columns = max(map(len, rows))
    rows = [row + [""] * (columns - len(row)) for row in rows]
    longest = [max(pdfmetrics.stringWidth(text.text if isinstance(text, Paragraph) else "", "Text", 9.5)
                   for text in column) + 14 for column in zip(*rows)]
    return Grid(rows, colWidths=_shared(longest, WIDTH), repeatRows=int(header), hAlign="LEFT", style=[
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, LINE), ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 0), ("RIGHTPADDING", (0, 0), (-1, -1), 8),
        ("TOPPADDING", (0, 0), (-1, -1), 2), ("BOTTOMPADDING", (0, 0), (-1, -1), 3)])


FLOWABLES = {Title: _title, Heading: _heading, Text: _text, Code: _code, Verdict: _verdict, Gap: _gap, Figure: _figure,
             Table: _table}
