from labkit.tasks.passages import cut_opening, passages

STORY = " ".join(f"word{i}" for i in range(500))


def test_passages_end_where_paragraphs_do():
    paragraphs = [f"{i} " + "word " * 60 for i in range(6)]  # 300 characters each
    pieces = [*passages("\n\n".join(paragraphs))]
    assert [piece.split("\n\n")[0][0] for piece in pieces] == ["0", "2", "4"]
    for text in (STORY, "a" * 2000, "a\n" * 900, "", " \n\n "):
        pieces = [*passages(text)]
        assert "".join("".join(pieces).split()) == "".join(text.split())
        assert all(0 < len(piece) <= 800 for piece in pieces)


def test_an_opening_has_8_words_or_40_characters_without_spaces():
    assert cut_opening("one two three four five six seven eight nine") == (
        "one two three four five six seven eight",
        " nine",
    )
    assert cut_opening("one two three four five six seven eight")[1] == ""
    assert cut_opening("one two three") == ("one two three", "")
    chinese = "春眠不觉晓处处闻啼鸟夜来风雨声花落知多少" * 3
    assert cut_opening(chinese) == (chinese[:40], chinese[40:])
