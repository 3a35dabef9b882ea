"""Events and reasons: what happened, and why something was refused. Imports nothing above the standard library."""

from swsgx.trace.reason import Reason, hexed
from swsgx.trace.recorder import OFF, Event, Recorder, to_json_lines, to_text

__all__ = ["OFF", "Event", "Reason", "Recorder", "hexed", "to_json_lines", "to_text"]
