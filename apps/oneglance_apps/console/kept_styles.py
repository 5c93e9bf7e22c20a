"""Styles of pictures that the server keeps: the dialogs that keep one under a name, and forget it."""

from collections.abc import Awaitable, Callable

from nicegui import ui

from oneglance.v1.stylization_pb2 import Style
from oneglance_apps.console.dialogs import confirm, opened_dialog
from oneglance_apps.console.page_state import PageState, refusal_label


def keep_style(state: PageState, picture: bytes, on_kept: Callable[[str], Awaitable[None]]) -> None:
    """Ask for a name to keep the style of ``picture`` under. ``on_kept`` is awaited with it."""
    say = state.say
    dialog, card = opened_dialog(say("style.keep"))

    async def keep() -> None:
        with state.errors_shown_in(refusal):
            style = await state.api.create_style(name.value.strip(), picture, title=title.value.strip())
            dialog.close()
            await on_kept(style.name)

    with card:
        ui.label(say("style.keep_text")).classes("soft")
        name = ui.input(say("style.name")).props("outlined dense autofocus")
        title = ui.input(say("style.title")).props("outlined dense")
        refusal = refusal_label()
        with ui.row().classes("actions"):
            ui.button(say("dialog.keep"), on_click=keep).props("unelevated no-caps")
            ui.button(say("dialog.cancel"), on_click=dialog.close).props("flat no-caps")


async def forget_style(state: PageState, style: Style) -> bool:
    """Forget it if that is really wanted. Returns whether it was done. Raises OneglanceError."""
    title = state.say("style.forget_title", name=style.name)
    if not await confirm(state.say, title=title, text=state.say("style.forget_text"), act=state.say("style.forget")):
        return False
    await state.api.delete_style(style.name, stylizer=style.stylizer_digest)
    return True
