"""Widths of letters in Arial, Helvetica and Liberation Sans, which are the same by design.

Source: advance widths of Liberation Sans 2.1 (SIL Open Font License), rounded up to a 36th of an em, of which
nearly all widths of these fonts are whole multiples.
"""

UNITS = 36
"""Units per em of the tables."""

RANGES = ((0x0020, 0x0180), (0x0370, 0x0460))
"""Ranges of code points in the tables, ends excluded: Latin; Greek and Cyrillic."""

DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
"""The letter at index n encodes a width of n units."""

REGULAR = (
    "KKNUUgYHMMOVKMKKUUUUUUUUUUKKVVVUlYYaaYWcaKSYUeacYcaYWaYiYYWKKKRUMUUSUUKUUIISIeUUUUMSKUSaSSSMKMVk"
    "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkKMUUUUKUMbOUVMbUPUMMMVUKMMOUeeeWYYYYYYkaYYYYKKKKaacccccVcaaaaYYW"
    "UUUUUUgSUUUUKKKKUUUUUUUUWUUUUSUSYUYUYUaSaSaSaSaXaUYUYUYUYUYUcUcUcUcUaUaUKKKKKKKIKKbQSIYSSUIUIULU"
    "MUIaUaUaUWbUcUcUcUkiaMaMaMYSYSYSYSWKWOWKaUaUaUaUaUaUiaYSYWSWSWSIkkkkkkkkkkkkkkKkkkkkMMYKdfOkckfc"
    "IYYUZYWacKYZeaYcaYkXWYdYfbKYVRUIUVVSVRQUUISSVSRUZVSXPUYTadIUUUdkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
    "kkkkkkkkkkkkkkkkYYgUaYKKSnlfVaXaYYYUZYiWaaVYeacaYaWXcYbYhidgYalaUVUOVUZRVVQVZUUUUSRSeSVTdeXaTTbU"
    "UUUOTSIKIheUQVSU"
)
"""Widths in regular type, one letter per code point of `RANGES`."""

BOLD = (
    "KMSUUgaJMMOVKMKKUUUUUUUUUUMMVVVWkaaaaYWcaKUaWeacYcaYWaYiYYWMKMVUMUWUWUMWWKKUKgWWWWOUMWUcUUSOLOVk"
    "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkKMUUUULUMbOUVMbUPUMMMVUKMMOUeeeWaaaaaakaYYYYKKKKaacccccVcaaaaYYW"
    "UUUUUUgUUUUUKKKKWWWWWWWUWWWWWUWUaUaUaUaUaUaUaUaaaWYUYUYUYUYUcWcWcWcWaWaWKKKKKKKKKKdUUKaUUWKWKWOW"
    "SWKaWaWaWabWcWcWcWkiaOaOaOYUYUYUYUWMWSWMaWaWaWaWaWaWicYUYWSWSWSKkkkkkkkkkkkkkkMkkkkkMRaMfhSkekif"
    "KaaWaYWacKaYeaYcaYkWWYeYedKYXRWKVXWUWSRWUKVUWURWcXTZRVaVcfKVWVfkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
    "kkkkkkkkkkkkkkkkYZgVaYKKUongWaXaaaaVaYhXaaWaeacaYaWXfYballgkaamaUXXPXUaSXXSXbWWWWUSUgUXVefbfXUfV"
    "UUWPUUKLKjhWSXUW"
)
"""Widths in bold type."""

SIGNS = {
    **dict.fromkeys("\u2018\u2019\u201a\u201b", 10),
    **dict.fromkeys("\u201c\u201d\u201e", 18),
    **dict.fromkeys("→←…—", 36),
    **dict.fromkeys("\u2010\u2011\u2013\u2039\u203a\u2212•†‡€≤≥≈", 22),
}
"""Widths of signs outside `RANGES`: the larger of regular and bold."""
