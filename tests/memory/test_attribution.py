from streams import (
    GRADIENT,
    STATE,
    WEIGHT,
    alloc,
    enter,
    forward,
    free,
    gradient,
    kinds,
    leave,
    parts,
    phase,
    report,
    total,
)

from labkit.memory import KINDS
from labkit.memory.attribution import attribute
from labkit.memory.events import Event, Held


def test_before_the_step_there_is_what_is_held():
    held = {
        1: Held(10, "trainable", "a"),
        2: Held(20, "frozen", "b"),
        3: Held(30, "quantized", "b"),
        4: Held(40, "optimizer", "a"),
        5: Held(50, "gradients", "c"),
    }
    found = report([], held)
    assert parts(found) == {"trainable": 10, "frozen": 20, "quantized": 30, "optimizer": 40, "gradients": 50}
    assert found.timeline == ((10, 20, 30, 40, 50, 0, 0, 0),)
    assert found.modules == {"a": 50, "b": 50, "c": 50}
    assert found.phases == {}


def test_a_step_over_nothing_is_nothing():
    found = report([])
    assert found.peak == 0
    assert found.timeline == ((0,) * len(KINDS),)
    assert found.modules == {}


def test_the_peak_is_the_highest_moment_and_not_the_sum():
    found = report([alloc(1, 10), alloc(2, 20), free(1), alloc(3, 5), free(2), free(3)])
    assert found.peak == 30
    assert [total(moment) for moment in found.timeline] == [0, 10, 30, 20, 25, 5, 0]


def test_held_memory_can_be_freed():
    found = report([free(GRADIENT), alloc(1, 10)], {WEIGHT: Held(100, "trainable"), GRADIENT: Held(60, "gradients")})
    assert [kinds(moment) for moment in found.timeline] == [
        {"trainable": 100, "gradients": 60},
        {"trainable": 100},
        {"trainable": 100, "temporaries": 10},
    ]


def test_memory_that_nobody_knew_of_is_freed_without_effect():
    found = report([alloc(1, 10), free(77), free(1), free(1)])
    assert [total(moment) for moment in found.timeline] == [0, 10, 0]


def test_an_address_that_is_used_again_is_another_allocation():
    events = forward(
        enter("a"), alloc(1, 10), free(1), alloc(1, 30), leave("a"), enter("b"), alloc(2, 4), free(2), leave("b")
    )
    found = report([*events, phase("loss"), alloc(2, 8), free(2), phase("backward"), alloc(2, 3), gradient(2, "b")])
    assert [kinds(moment) for moment in found.timeline] == [
        {},
        {"temporaries": 10},
        {},
        {"activations": 30},
        {"activations": 30, "temporaries": 4},
        {"activations": 30},
        {"activations": 30, "logits": 8},
        {"activations": 30},
        {"activations": 30, "gradients": 3},
    ]


def test_what_is_still_there_when_the_loss_begins_is_an_activation():
    kept, gone = alloc(1, 100), alloc(2, 40)
    found = report([*forward(enter("block"), kept, gone, free(2), leave("block")), phase("loss"), phase("backward")])
    assert parts(found) == {"activations": 100, "temporaries": 40}
    assert found.modules == {"block": 140}


def test_what_is_freed_in_the_backward_pass_was_an_activation():
    found = report([*forward(alloc(1, 100)), phase("loss"), phase("backward"), free(1), alloc(2, 30)])
    assert [kinds(moment) for moment in found.timeline] == [{}, {"activations": 100}, {}, {"temporaries": 30}]


def test_the_batch_is_no_activation():
    found = report([alloc(1, 7), *forward(alloc(2, 100)), phase("loss")])
    assert parts(found) == {"temporaries": 7, "activations": 100}


def test_what_the_head_inside_a_network_allocates_is_logits():
    # A causal model's head is called in the forward pass, and its call begins the loss.
    found = report(
        [
            *forward(
                enter("model"),
                alloc(1, 10),
                leave("model"),
                alloc(2, 5),
                enter("lm_head"),
                phase("loss"),
                alloc(3, 200),
                leave("lm_head"),
            ),
            alloc(4, 1),
        ]
    )
    assert parts(found) == {"activations": 15, "logits": 201}
    assert found.modules == {"model": 10, "": 6, "lm_head": 200}


def test_the_loss_and_its_gradients_are_logits_until_the_backward_pass_reaches_the_network():
    found = report([*forward(), phase("loss"), alloc(1, 50), alloc(2, 50), phase("backward"), alloc(3, 20)])
    assert parts(found) == {"logits": 100, "temporaries": 20}


def test_a_gradient_is_one_from_its_birth_on():
    found = report([phase("backward"), alloc(1, 10), alloc(2, 3), gradient(1, "layer"), free(2)])
    assert [kinds(moment) for moment in found.timeline] == [
        {},
        {"gradients": 10},
        {"gradients": 10, "temporaries": 3},
        {"gradients": 10},
    ]
    assert found.modules == {"layer": 10, "": 3}


def test_a_gradient_of_the_head_is_no_logits():
    found = report([phase("loss"), alloc(1, 10), gradient(1, "lm_head"), phase("backward")])
    assert parts(found) == {"gradients": 10}
    assert found.modules == {"lm_head": 10}


def test_a_gradient_in_memory_that_nobody_knew_of_is_left_out():
    assert report([phase("backward"), alloc(1, 10), gradient(77, "layer")]).gradients == 0


def test_a_gradient_that_is_added_to_stays_one():
    once = [*forward(alloc(1, 10)), phase("loss"), phase("backward"), free(1)]
    first = [*once, alloc(2, 4), gradient(2, "layer")]
    second = [*once, alloc(3, 4), gradient(2, "layer"), free(3)]  # a new one is added to it, and is gone
    found = report([*first, *second])
    assert parts(found) == {"activations": 10, "gradients": 4}
    assert [kinds(moment) for moment in found.timeline[-2:]] == [{"gradients": 4, "temporaries": 4}, {"gradients": 4}]


def test_in_the_second_batch_of_a_step_activations_are_told_apart_again():
    batch = [*forward(alloc(1, 10), alloc(2, 3), free(2)), phase("loss"), alloc(3, 5), free(3), phase("backward")]
    found = report([*batch, free(1), *batch])
    assert [kinds(moment) for moment in found.timeline] == 2 * [
        {},
        {"activations": 10},
        {"activations": 10, "temporaries": 3},
        {"activations": 10},
        {"activations": 10, "logits": 5},
        {"activations": 10},
    ]
    assert found.phases == {"forward": 6, "loss": 9, "backward": 11}  # of the last batch


# Gradient checkpointing


def test_what_recomputation_leaves_is_an_activation_until_it_is_freed():
    found = report(
        [
            *forward(alloc(1, 10)),
            phase("loss"),
            phase("backward"),
            alloc(2, 8),  # a gradient on its way
            enter("block"),
            alloc(3, 100),
            alloc(4, 40),
            free(4),
            leave("block"),
            alloc(5, 9),
            free(3),
        ]
    )
    assert [kinds(moment) for moment in found.timeline] == [
        {},
        {"activations": 10},
        {"activations": 10, "temporaries": 8},
        {"activations": 110, "temporaries": 8},
        {"activations": 110, "temporaries": 48},
        {"activations": 110, "temporaries": 8},
        {"activations": 110, "temporaries": 17},
        {"activations": 10, "temporaries": 17},
    ]
    assert found.modules["block"] == 140


def test_a_module_inside_a_block_does_not_end_its_recomputation():
    events = [enter("block"), alloc(1, 10), enter("block.mlp"), alloc(2, 20), leave("block.mlp"), free(1)]
    found = report([phase("backward"), *events, leave("block")])
    assert [kinds(moment) for moment in found.timeline] == [
        {},
        {"temporaries": 10},
        {"activations": 20, "temporaries": 10},
        {"activations": 20},
    ]
    assert found.modules == {"block": 10, "block.mlp": 20}


def test_each_block_is_recomputed_for_itself():
    block = [enter("block"), alloc(1, 100), leave("block"), alloc(2, 7), free(1), free(2)]
    found = report([phase("backward"), *block, *block])
    assert [kinds(moment) for moment in found.timeline] == [
        {},
        *2 * [{"activations": 100}, {"activations": 100, "temporaries": 7}, {"temporaries": 7}, {}],
    ]


# The optimizer


def test_states_that_the_update_makes_are_the_optimizers():
    events = [phase("update"), alloc(1, 10), alloc(2, 20), alloc(3, 5), free(3)]
    found = report(events, {WEIGHT: Held(10, "trainable", "layer")}, {1: "layer", 2: "layer", 77: "other"})
    assert parts(found) == {"trainable": 10, "optimizer": 30, "temporaries": 5}
    assert found.modules == {"layer": 40, "": 5}


def test_states_that_were_there_stay_what_they_are():
    held = {WEIGHT: Held(10, "trainable", "layer"), STATE: Held(20, "optimizer", "layer")}
    found = report([phase("update"), alloc(1, 3)], held, {STATE: "layer"})
    assert parts(found) == {"trainable": 10, "optimizer": 20, "temporaries": 3}


def test_states_are_told_by_the_last_use_of_an_address():
    found = report([phase("update"), alloc(1, 10), free(1), alloc(1, 20)], states={1: "layer"})
    assert [kinds(moment) for moment in found.timeline] == [{}, {"temporaries": 10}, {}, {"optimizer": 20}]


# Modules and phases


def test_memory_belongs_to_the_innermost_module():
    found = report(
        forward(alloc(1, 1), enter("a"), alloc(2, 2), enter("a.b"), alloc(3, 4), leave("a.b"), alloc(4, 8), leave("a"))
    )
    assert found.modules == {"": 1, "a": 10, "a.b": 4}


def test_modules_are_those_of_the_peak():
    found = report(
        forward(enter("a"), alloc(1, 5), free(1), leave("a"), enter("b"), alloc(2, 9), leave("b"), free(2), alloc(3, 1))
    )
    assert found.modules == {"b": 9}


def test_phases_are_the_moments_at_which_they_begin():
    events = [
        alloc(1, 1),
        *forward(alloc(2, 2), alloc(3, 3)),
        phase("loss"),
        alloc(4, 4),
        phase("backward"),
        free(4),
        free(3),
        free(2),
        phase("update"),
        alloc(5, 5),
    ]
    found = report(events, {WEIGHT: Held(100, "trainable")})
    assert found.phases == {"forward": 1, "loss": 3, "backward": 4, "update": 7}
    assert [kinds(found.timeline[at]) for at in found.phases.values()] == [
        {"trainable": 100, "temporaries": 1},
        {"trainable": 100, "temporaries": 1, "activations": 5},
        {"trainable": 100, "temporaries": 1, "activations": 5, "logits": 4},
        {"trainable": 100, "temporaries": 1},
    ]


def test_blocks_are_marked_and_change_nothing():
    events = [
        *forward(Event("block", name="forward b"), alloc(1, 10)),
        phase("loss"),
        alloc(2, 4),
        Event("block", name="backward b"),
        alloc(3, 1),
    ]
    trace = attribute({WEIGHT: Held(5, "frozen")}, events, {})
    assert trace.marks == [
        ("phase", "forward", 1),
        ("block", "forward b", 1),
        ("phase", "loss", 2),
        ("block", "backward b", 3),
    ]
    assert parts(trace.report()) == {"frozen": 5, "activations": 10, "logits": 5}


def test_an_encoders_head_outside_keeps_what_the_pooling_made():
    events = [enter(""), phase("forward"), alloc(1, 10), alloc(4, 7), leave(""), free(4), alloc(2, 20)]
    events += [enter("head"), phase("loss"), alloc(5, 3), leave("head")]
    assert attribute({}, events, {}).kinds == ["activations", "temporaries", "activations", "logits"]


def test_an_unreported_release_is_made_up_for_when_the_address_is_used_again():
    report = attribute({1: Held(100, "gradients")}, [alloc(1, 30)], {}).report()
    assert report.timeline[-1] == attribute({}, [alloc(1, 30)], {}).report().timeline[-1]


def test_an_exit_without_an_entry_is_passed_over():
    assert attribute({}, [leave("a"), alloc(1, 10)], {}).report().peak == 10
