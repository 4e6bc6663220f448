import itertools

from labkit.planning.search import most_that_fits


class Line:
    """Bytes that grow linearly, and the numbers that they were computed for."""

    def __init__(self, fixed, each):
        self.fixed, self.each, self.asked = fixed, each, []

    def __call__(self, count):
        self.asked.append(count)
        return self.fixed + self.each * count


def test_on_a_line_the_answer_is_exact_and_quick():
    for start, fixed, each, most in itertools.product(
        [1, 2, 7, 100, 5000], [0, 1000, 10**9], [1, 3, 1000, 10**7], [0, 1, 2, 6, 99, 4321]
    ):
        for room in (fixed + each * most, fixed + each * (most + 1) - 1):
            line = Line(fixed, each)
            known = start, fixed + each * start
            assert most_that_fits(line, known, room, fixed) == most
            assert len(line.asked) <= 2
            line.asked.clear()
            assert most_that_fits(line, known, room, fixed // 2) == most  # a worse first guess
            assert len(line.asked) <= 4


def test_no_more_than_the_limit_is_found():
    for start, limit in [(1, 1), (1, 50), (50, 50), (7, 50)]:
        line = Line(10, 2)
        assert most_that_fits(line, (start, line(start)), 10**9, 10, limit) == limit
        assert max(line.asked) <= limit


def test_where_nothing_fits_the_answer_is_0():
    for room in [0, -5, 10, 11]:
        line = Line(10, 2)
        assert most_that_fits(line, (4, line(4)), room, 10) == 0
        assert min(line.asked) >= 1  # there is no step over an empty batch
