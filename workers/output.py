"""What steps print while they run, told to those who watch; and that some of it was not, where it came too fast."""

from __future__ import annotations

from swamp.wire.messages import OutputLines
from workers.slots import Slots, StepSaid
from workers.voice import UNACKNOWLEDGED_LIMIT, Voice
from workers.withheld import Withheld


class LiveOutput:
    """The result of a step has all of it, whatever was told of it before."""

    def __init__(self, slots: Slots, voice: Voice) -> None:
        self._slots = slots
        self._voice = voice
        self._withheld = Withheld(UNACKNOWLEDGED_LIMIT)

    def tell(self, said: StepSaid) -> None:
        if said.dispatch not in self._slots.running:
            return
        if self._withheld.withholds(said.dispatch, said.lines, self._voice.size):
            return
        self.tell_what_was_withheld(said.dispatch)
        text = said.lines.decode("utf-8", "replace").removesuffix("\n")
        self._voice.say(OutputLines(said.dispatch, said.stream, text))

    def tell_what_was_withheld(self, dispatch: str) -> None:
        if note := self._withheld.note(dispatch):
            self._voice.say(OutputLines(dispatch, "stderr", note))
