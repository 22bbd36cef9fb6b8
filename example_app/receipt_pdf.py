"""A receipt as PDF, by hand: one page, one built-in font, no library."""

from __future__ import annotations

from collections.abc import Sequence

from .books import money
from .models import Order

_PAGE = (420, 298)  # A6, lying; points of 1/72 inch
_LEFT, _TOP = 36, 250

Line = tuple[str, int, int]  # text, size in points, points down from the line before


def receipt_pdf(order: Order) -> bytes:
    lines: list[Line] = [
        ("Quill & Page", 20, 0),
        (f"Receipt for order {order.number}", 13, 24),
        (f"Date: {order.ordered_on.isoformat()}", 10, 30),
        (f"{order.quantity} × {order.title}, {money(order.price_cents)} each", 10, 18),
        (f"Total: {money(order.total_cents)}", 12, 26),
        ("Thank you for reading.", 10, 40),
    ]
    return _document(f"Receipt {order.number}", _page(lines))


def _page(lines: Sequence[Line]) -> bytes:
    drawing = [f"BT {_LEFT} {_TOP} Td".encode()]
    for text, size, down in lines:
        drawing.append(b"/F1 %d Tf 0 -%d Td (%s) Tj" % (size, down, _text(text)))
    return b"\n".join([*drawing, b"ET"])


def _text(text: str) -> bytes:
    r"""A literal string (PDF 1.7, 7.3.4.2): `\`, `(` and `)` are escaped, line ends are not let in."""
    flat = " ".join(text.split()).encode("cp1252", "replace")
    return flat.replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")


def _document(title: str, drawing: bytes) -> bytes:
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %d %d] /Contents 5 0 R /Resources << /Font << /F1 4 0 R >> >> >>"
        % _PAGE,
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawing), drawing),
        b"<< /Title (%s) >>" % _text(title),
    ]
    # The comment's high bytes tell transfer programs that this is not text (7.5.2).
    content, starts = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"), []
    for number, body in enumerate(objects, 1):
        starts.append(len(content))
        content += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(content)
    content += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    content += b"".join(b"%010d 00000 n \n" % start for start in starts)
    content += b"trailer\n<< /Size %d /Root 1 0 R /Info 6 0 R >>\n" % (len(objects) + 1)
    content += b"startxref\n%d\n%%%%EOF\n" % table
    return bytes(content)
