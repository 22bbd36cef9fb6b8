"""Books, orders, and the contact page."""

from __future__ import annotations

from flask import Blueprint, abort, current_app, flash, redirect, render_template, url_for
from werkzeug.wrappers import Response

from flask_outmail import InvalidMessage

from .accounts import admin_required, current_user, login_required
from .books import BOOKS, Book, book_or_none
from .extensions import db
from .forms import ButtonForm, ContactForm, OrderForm
from .mails import ACCEPTED, HELD, confirm, hand_over, outcome_now, question
from .models import Order, User

blueprint = Blueprint("shop", __name__)


@blueprint.get("/")
def home() -> str:
    return render_template("home.html", books=BOOKS)


@blueprint.route("/books/<slug>", methods=["GET", "POST"])
@login_required
def order_book(slug: str) -> str | Response:
    book, user = _book(slug), _user()
    if not book.in_stock:
        return render_template("out_of_stock.html", book=book, form=ButtonForm())
    form = OrderForm(email=user.email)
    if not form.validate_on_submit():
        return render_template("book.html", book=book, form=form)
    order = Order(
        user_id=user.id,
        book_slug=book.slug,
        title=book.title,
        price_cents=book.price_cents,
        quantity=form.quantity.data,
        email=form.email.data,
    )
    db.session.add(order)
    # The order counts from here on, whatever becomes of the mail.
    db.session.commit()
    confirm(order)
    return redirect(url_for("shop.show_order", order_id=order.id))


@blueprint.post("/books/<slug>/remind")
@login_required
def remind(slug: str) -> str:
    """The answer is the thank-you page, and that page sends the mail: see its template."""
    return render_template("thanks.html", book=_book(slug))


@blueprint.get("/orders")
@login_required
def orders() -> str:
    user = _user()
    query = db.select(Order).order_by(Order.id.desc()).limit(100)
    found = db.session.scalars(query if user.is_admin else query.where(Order.user_id == user.id)).all()
    return render_template("orders.html", orders=[(order, outcome_now(order)) for order in found])


@blueprint.get("/orders/<int:order_id>")
@login_required
def show_order(order_id: int) -> str:
    order = _order(order_id)
    return render_template("order.html", order=order, outcome=outcome_now(order), form=ButtonForm())


@blueprint.post("/orders/<int:order_id>/confirmation")
@login_required
def confirm_again(order_id: int) -> Response:
    order = _order(order_id)
    # A mail that is held leaves by itself; a second one would arrive beside it.
    if outcome_now(order).state != HELD:
        confirm(order)
    return redirect(url_for("shop.show_order", order_id=order.id))


@blueprint.route("/contact", methods=["GET", "POST"])
def contact() -> str | Response:
    form = ContactForm()
    user = current_user()
    if user is not None and not form.is_submitted():
        form.name.data, form.email.data = user.name.title(), user.email
    if not form.validate_on_submit():
        return render_template("contact.html", form=form, outcome=None)
    try:
        message = question(form.name.data, form.email.data, form.text.data)
        message.check(sender_later=True)
    except InvalidMessage:
        form.email.errors = ["This name or address cannot stand in a mail. Please check both."]
        return render_template("contact.html", form=form, outcome=None)
    outcome = hand_over(message)
    if outcome.state not in (ACCEPTED, HELD):
        return render_template("contact.html", form=form, outcome=outcome)
    flash("Thank you. Your question is on its way to us, and we answer by email.")
    return redirect(url_for("shop.contact"))


@blueprint.get("/simulator")
@admin_required
def simulator() -> str:
    """The values to paste into the set-up pages; only where the simulator is."""
    world = current_app.config.get("EXAMPLE_WORLD")
    if world is None:
        abort(404)
    return render_template("simulator.html", world=world)


def _book(slug: str) -> Book:
    return book_or_none(slug) or abort(404)


def _user() -> User:
    return current_user() or abort(403)


def _order(order_id: int) -> Order:
    """The order, if it is the visitor's own or the visitor an administrator. To others it does not exist."""
    order, user = db.session.get(Order, order_id), _user()
    if order is None or not (user.is_admin or order.user_id == user.id):
        abort(404)
    return order
