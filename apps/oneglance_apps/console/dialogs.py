"""Dialogs: a question before something is deleted, one that wants a name to be typed, and a new gallery."""

from collections.abc import Awaitable, Callable

from nicegui import ui

from oneglance_apps.console.page_state import PageState, refusal_label
from oneglance_apps.console.quality_choice import QualityChoice
from oneglance_apps.console.words import Words
from oneglance_apps.text import is_encoder

BAD = "unelevated no-caps color=negative"


def opened_dialog(title: str) -> tuple[ui.dialog, ui.card]:
    """An open dialog, and the card to fill; it is gone once it is closed."""
    with ui.dialog().props("role=dialog") as dialog, ui.card().classes("dialog") as card:
        ui.label(title).classes("title").props("role=heading aria-level=2")
    dialog.props["aria-label"] = title
    dialog.on("hide", dialog.delete)
    dialog.open()
    return dialog, card


async def confirm(say: Words, *, title: str, text: str, act: str) -> bool:
    """Whether somebody wants what can't be undone."""
    dialog, card = opened_dialog(title)
    with card:
        ui.label(text).classes("soft")
        with ui.row().classes("actions"):
            ui.button(act, on_click=lambda: dialog.submit(True)).props(BAD)
            ui.button(say("dialog.keep"), on_click=lambda: dialog.submit(False)).props("flat no-caps autofocus")
    return bool(await dialog)


async def confirm_typed(
    state: PageState, *, title: str, text: str, typed: str, act: str, carry_out: Callable[[], Awaitable[None]]
) -> bool:
    """Do what can't be undone once somebody typed ``typed``. Returns whether it was done; the dialog tells errors."""
    dialog, card = opened_dialog(title)

    async def do() -> None:
        with state.errors_shown_in(refusal):
            await carry_out()
            dialog.submit(True)

    with card:
        ui.label(text).classes("soft")
        given = ui.input(state.say("dialog.type", name=typed)).props("outlined dense autofocus")
        refusal = refusal_label()
        with ui.row().classes("actions"):
            button = ui.button(act, on_click=do).props(BAD)
            button.bind_enabled_from(given, "value", lambda value: (value or "").strip() == typed)
            ui.button(state.say("dialog.keep"), on_click=lambda: dialog.submit(False)).props("flat no-caps")
    return bool(await dialog)


def new_gallery(state: PageState, on_created: Callable[[str], Awaitable[None]]) -> None:
    """Ask for a new gallery. ``on_created`` is awaited with its id."""
    say = state.say
    of_photos = {model.name for model in state.models.values() if model.takes_photos}
    encoders = {model.name: model.name for model in state.models.values() if is_encoder(model)}
    dialog, card = opened_dialog(say("gallery.new"))
    with card:
        name = ui.input(say("field.name")).props("autofocus outlined dense")
        encoder = ui.select(encoders, label=say("gallery.encoder"), value=next(iter(encoders), None))
        encoder.props("outlined dense")
        description = ui.input(say("gallery.description")).props("outlined dense")
        ui.label(say("gallery.for_life")).classes("soft")
        quality = QualityChoice(say)
        quality.build()
        quality.frame.bind_visibility_from(encoder, "value", lambda name: name in of_photos)
        refusal = refusal_label()

        async def create() -> None:
            with state.errors_shown_in(refusal):
                gallery = await state.api.create_gallery(
                    name.value.strip(),
                    encoder=encoder.value or "",
                    description=description.value,
                    quality_policy=quality.policy,
                )
                dialog.close()
                await on_created(gallery.id)

        with ui.row().classes("actions"):
            ui.button(say("gallery.create"), on_click=create).props("unelevated no-caps")
            ui.button(say("dialog.cancel"), on_click=dialog.close).props("flat no-caps")
