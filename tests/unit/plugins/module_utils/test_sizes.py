# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes: what people write, and the roundings of SPDK."""

from __future__ import annotations

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import Refusal
from ansible_collections.excloud.diskengine.plugins.module_utils._sizes import (
    MIB,
    divide_up,
    format_size,
    lvol_size,
    parse_size,
)
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        (4096, 4096),
        ("10B", 10),
        ("1k", 1024),
        ("1KiB", 1024),
        ("1KB", 1000),
        ("100GiB", 100 << 30),
        ("100 GiB", 100 << 30),
        (" 100gib ", 100 << 30),
        ("100G", 100 << 30),
        ("100GB", 100 * 10**9),
        ("1.5T", 3 << 39),
        ("0.5KiB", 512),
        ("0.001KB", 1),
        ("2.50 MiB", 5 << 19),
        ("1PiB", 1 << 50),
        ("1PB", 10**15),
    ],
)
def test_parse(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "size '' is not a size; write it like 100GiB"),
        ("GiB", "is not a size"),
        ("ten", "is not a size"),
        ("-1GiB", "is not a size"),
        ("1e3", "is not a size"),
        ("1,5GiB", "is not a size"),
        (".5GiB", "is not a size"),
        ("1XiB", "is not a size"),
        ("1GiBB", "is not a size"),
        ("1GiB\n2", "is not a size"),
        ("0x10", "is not a size"),
        ("inf", "is not a size"),
        (None, "is not a size"),
        (True, "is not a size"),
        ("0", "size '0' is zero"),
        ("0GiB", "is zero"),
        ("0.0", "is zero"),
        ("0.1", "is not a whole number of bytes"),
        ("0.3KiB", "is not a whole number of bytes"),
        ("16EiB", "is not a size"),
        ("8192PiB", "is more than"),
        (str(2**63), "is more than"),
    ],
)
def test_bad_sizes(text, sentence):
    with pytest.raises(Refusal) as caught:
        parse_size(text)
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("size ")


def test_the_largest_size():
    assert parse_size(str(2**63 - 1)) == 2**63 - 1


def test_the_message_names_the_option():
    with pytest.raises(Refusal, match="^cluster_size 'x' is not a size"):
        parse_size("x", "cluster_size")


@given(st.integers(1, 2**62))
def test_round_trip(size):
    assert parse_size(format_size(size)) == size
    assert parse_size(size) == parse_size(str(size)) == size


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1536 B"),
        (10 << 30, "10 GiB"),
        ((1 << 40) + 1, f"{(1 << 40) + 1} B"),
    ],
)
def test_format(size, text):
    assert format_size(size) == text


@given(st.text(max_size=12))
def test_any_text_is_a_size_or_refused(text):
    try:
        assert parse_size(text) > 0
    except Refusal as refusal:
        assert repr(text) in str(refusal)


@pytest.mark.parametrize(
    ("size", "cluster", "expected"),
    [
        (1, 4 * MIB, (1, 4 * MIB)),
        (10 * MIB, 4 * MIB, (10, 12 * MIB)),
        (12 * MIB, 4 * MIB, (12, 12 * MIB)),
        (12 * MIB + 1, 4 * MIB, (13, 16 * MIB)),
        (MIB, 4096, (1, MIB)),
        (MIB + 1, 12288, (2, 171 * 12288)),
    ],
)
def test_lvol_size(size, cluster, expected):
    assert lvol_size(size, cluster) == expected


@given(st.integers(1, 2**50), st.integers(1, 2**20).map(lambda pages: pages * 4096))
def test_lvol_size_is_the_least_that_fits(size, cluster):
    size_in_mib, real = lvol_size(size, cluster)
    assert real % cluster == 0
    assert real >= size_in_mib * MIB >= size
    assert real - size_in_mib * MIB < cluster
    assert size_in_mib * MIB - size < MIB
    again = lvol_size(real, cluster)
    assert again[1] >= real
    if cluster % MIB == 0:
        assert again[1] == real, "asking for what was made is no change"


@given(st.integers(0, 2**70), st.integers(1, 2**40))
def test_divide_up(value, divisor):
    result = divide_up(value, divisor)
    assert (result - 1) * divisor < value <= result * divisor
