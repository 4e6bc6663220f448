"""Streams of events written by hand, and the contents of the reports on them."""

from labkit.memory import KINDS
from labkit.memory.attribution import attribute
from labkit.memory.events import Event

WEIGHT, STATE, GRADIENT = 900, 901, 902  # addresses


def alloc(address, size):
    return Event("alloc", address, size)


def free(address):
    return Event("free", address)


def enter(name):
    return Event("enter", name=name)


def leave(name):
    return Event("exit", name=name)


def phase(name):
    return Event("phase", name=name)


def gradient(address, name):
    return Event("gradient", address, name=name)


def forward(*events):
    """Return the events of a whole network's forward pass."""
    return [enter(""), phase("forward"), *events, leave("")]


def report(events, held=None, states=None):
    return attribute(held or {}, events, states or {}).report()


def kinds(moment):
    """Return the bytes of each kind at a moment of a timeline, without the zeros."""
    return {kind: size for kind, size in zip(KINDS, moment, strict=True) if size}


def parts(found):
    """Return the bytes of each kind at a report's peak, without the zeros."""
    return {kind: getattr(found, kind) for kind in KINDS if getattr(found, kind)}


def total(moment):
    return sum(moment)
