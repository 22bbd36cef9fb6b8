"""What the shop sells. A real shop has a table; this one has a shelf."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Book:
    slug: str
    title: str
    author: str
    about: str
    price_cents: int
    in_stock: bool = True


BOOKS = (
    Book(
        "the-lighthouse-ledger",
        "The Lighthouse Ledger",
        "Maren Holt",
        "A keeper writes down every ship that passes, until one passes twice in the same night.",
        1890,
    ),
    Book(
        "salt-and-semaphore",
        "Salt and Semaphore",
        "Idris Okonjo",
        "How messages crossed the sea before wires did, told by the people who waited for them.",
        2450,
    ),
    Book(
        "small-gardens-large-weather",
        "Small Gardens, Large Weather",
        "Pia Lindqvist",
        "Twelve months on a balcony, with drawings, a rain gauge and very few tomatoes.",
        2200,
    ),
    Book(
        "the-clockmakers-apprentice",
        "The Clockmaker’s Apprentice",
        "Tomás Ferreira",
        "She can mend any clock in the town but her grandfather’s. A novel.",
        1650,
    ),
    Book(
        "bread-for-five-doors",
        "Bread for Five Doors",
        "Annika Voss",
        "One oven, one stairwell, five families and forty recipes.",
        2790,
        in_stock=False,
    ),
    Book(
        "letters-nobody-posted",
        "Letters Nobody Posted",
        "Henrik Aalto",
        "Found in the back of a sorting office, and printed here with the families’ leave.",
        1990,
    ),
)
_BY_SLUG = {book.slug: book for book in BOOKS}


def book_or_none(slug: str) -> Book | None:
    return _BY_SLUG.get(slug)


def money(cents: int) -> str:
    return f"€ {cents // 100}.{cents % 100:02d}"
