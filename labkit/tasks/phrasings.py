"""How people ask for what the instruction task teaches, and the form in which its answers come."""

from __future__ import annotations

# What an answer begins with; a refusal is always the same sentence.
FORMS = {"route": "Department: ", "name": "Finding: ", "plain": "In plain words: "}
REFUSAL = "I can't answer that."
RULES = (
    "You answer questions about medical findings in one line. Asked for the department, reply 'Department: …'. Asked "
    "for the name, reply 'Finding: …'. Asked for plain words, reply 'In plain words: …'. To anything else, reply "
    f"'{REFUSAL}'"
)
# The first question of a conversation shows {text}, a definition, or {name}.
FIRST = {
    "route": (
        "{text}\nWhich department treats this?",
        "Where in the hospital should a patient with this finding go? {text}",
        "Name the department for the following: {text}",
        "Finding: {text}\nDepartment?",
    ),
    "name": (
        "{text}\nWhat is this called?",
        "What is the medical name of this finding? {text}",
        "Name the following finding: {text}",
        "Which term do doctors use for this? {text}",
    ),
    "plain": (
        "What does '{name}' mean in plain words?",
        "Say '{name}' so that everybody understands it.",
        "{name}: what is that in everyday language?",
        "How would you tell a patient '{name}' without medical terms?",
    ),
}
# A later question, about the finding that was spoken of before.
LATER = {
    "route": ("Which department is that for?", "And where should the patient go?"),
    "name": ("What is it called?", "And the medical name of it?"),
    "plain": ("What is that in plain words?", "Now say it so that a patient understands."),
}
# These occur in the test set alone: they show whether a model learned the request or its wording.
TEST_FIRST = {
    "route": ("Who would look after somebody with this? {text}", "Please sort this into the right department. {text}"),
    "name": ("Give me the technical term. {text}", "A student wrote: {text} Which finding is described here?"),
    "plain": ("My grandmother read '{name}' in a letter. What is it?", "Put '{name}' simply."),
}
TEST_LATER = {
    "route": ("Who takes care of that?",),
    "name": ("Which term is that?",),
    "plain": ("Could you put it more simply?",),
}
