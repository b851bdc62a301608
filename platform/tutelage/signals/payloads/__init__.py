"""How signals travel: both ends of each kind of payload, and the check between them."""

from tutelage.signals.payloads.base import Decoded
from tutelage.signals.payloads.integrity import fault, packet_fault
from tutelage.signals.payloads.signal import decode, encode, signal_of

__all__ = ["Decoded", "decode", "encode", "fault", "packet_fault", "signal_of"]
