"""RFC 4514: the text of a distinguished name, read back by cryptography's own parser."""

from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.request import SubjectAttribute, SubjectType, distinguished_name

# The parser that reads back has no name for serialNumber, and wants two letters of a country.
READABLE = [each for each in SubjectType if each not in {SubjectType.SERIAL_NUMBER, SubjectType.COUNTRY}]
# The parser counts octets of UTF-8, and takes 64 for a common name.
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=16)


@given(st.lists(st.builds(SubjectAttribute, st.sampled_from(READABLE), TEXT), min_size=1, max_size=5))
def test_whatever_the_values_a_reader_finds_them_again(attributes: list[SubjectAttribute]):
    name = x509.Name.from_rfc4514_string(distinguished_name(tuple(attributes)))
    assert [each.value for each in name] == [each.value for each in attributes]


def test_the_last_attribute_comes_first():
    attributes = (
        SubjectAttribute(SubjectType.COUNTRY, "CH"),
        SubjectAttribute(SubjectType.ORGANIZATION, "Acme, Inc."),
        SubjectAttribute(SubjectType.COMMON_NAME, "dev1"),
    )
    assert distinguished_name(attributes) == r"CN=dev1,O=Acme\, Inc.,C=CH"


def test_spaces_and_hashes_at_the_ends_and_nul_are_escaped():
    def written(value: str) -> str:
        return distinguished_name((SubjectAttribute(SubjectType.COMMON_NAME, value),))

    assert written(" a ") == "CN=\\ a\\ "
    assert written("#1") == "CN=\\#1"
    assert written(" ") == "CN=\\ "
    assert written("a\0b") == "CN=a\\00b"
