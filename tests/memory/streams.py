"""Streams of events, written by hand, and what a report says of them."""

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
    """A pass of a whole network."""
    return [enter(""), phase("forward"), *events, leave("")]


def report(events, held=None, states=None):
    return attribute(held or {}, events, states or {}).report()


def kinds(moment):
    """The kinds of a moment of a timeline that are there, as a dictionary."""
    return {kind: size for kind, size in zip(KINDS, moment, strict=True) if size}


def parts(found):
    """The kinds of a report's peak that are there."""
    return {kind: getattr(found, kind) for kind in KINDS if getattr(found, kind)}


def total(moment):
    return sum(moment)
