"""Error numbers against Python's errno module and the C library."""

from __future__ import annotations

import errno
import os
import platform

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskscope.abi.errno import (
    ALIASES,
    ERRNO,
    FIRST_INTERNAL,
    errno_message,
    errno_name,
    errno_number,
    errno_of_return,
)

# A machine under load must not fail a test by being slow.
SETTINGS = settings(deadline=None)

GENERIC = not platform.machine().startswith(("mips", "sparc", "alpha", "parisc", "hppa"))


def test_numbers_are_those_of_the_errno_module() -> None:
    """Every error that Python knows here has the number we give it."""
    if not GENERIC:
        pytest.skip(f"{platform.machine()} numbers its errors differently")
    theirs = {name: number for name, number in vars(errno).items() if name.startswith("E") and isinstance(number, int)}
    assert len(theirs) > 120
    assert {name: errno_number(name) for name in theirs} == theirs
    assert {name: errno_number(name) for name in ALIASES} == ALIASES


def test_messages_are_those_of_the_c_library() -> None:
    """Messages are those of strerror(3) in the C locale."""
    if not GENERIC or "glibc" not in platform.libc_ver():
        pytest.skip("another C library words its messages differently")
    for number in ERRNO:
        if number < FIRST_INTERNAL:
            assert errno_message(number) == os.strerror(number)


def test_names_are_read_back() -> None:
    """The name of every error gives its number, in any case and without the E."""
    for number, (name, message) in ERRNO.items():
        assert errno_number(name) == errno_number(name.lower()) == errno_number(name[1:]) == number
        assert errno_name(number) == name
        assert message


def test_what_is_no_error_has_no_name() -> None:
    """Numbers between and beyond the errors have no name, and unknown names no number."""
    assert errno_name(0) is None
    assert errno_name(41) is None           # where EWOULDBLOCK once was
    assert errno_name(520) is None
    assert errno_number("EFOO") is None
    assert errno_number("") is None


def test_the_restart_errors_stay_inside_the_kernel() -> None:
    """ERESTARTSYS to ERESTART_RESTARTBLOCK have the kernel's numbers."""
    assert [errno_name(n) for n in (512, 513, 514, 516)] == [
        "ERESTARTSYS", "ERESTARTNOINTR", "ERESTARTNOHAND", "ERESTART_RESTARTBLOCK"]
    assert errno_number("erestartsys") == 512 >= FIRST_INTERNAL


@SETTINGS
@given(st.integers(1, 4095))
def test_an_error_in_a_return_value(number: int) -> None:
    """An error is found in a negative return value however its sign is written."""
    assert errno_of_return(-number) == number
    assert errno_of_return((1 << 64) - number) == number
    assert errno_of_return((1 << 32) - number) == number


@pytest.mark.parametrize("value", [0, 1, 4096, 1 << 31, (1 << 32) - 4096, (1 << 64) - 4096, 1 << 63, -4096])
def test_other_return_values_carry_no_error(value: int) -> None:
    """A value outside -4095 to -1 is no error."""
    assert errno_of_return(value) is None
