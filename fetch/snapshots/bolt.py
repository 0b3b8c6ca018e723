"""The format of bbolt's files, which an etcd's snapshot is: a tree of pages (https://github.com/etcd-io/bbolt).

    page 0, page 1    meta pages: where the root is; the one that is whole and has the higher transaction counts
    other pages       leaf pages of keys and values, branch pages of keys and pages, a list of free pages

Every page has a header, a table of its elements and behind that their bytes; one whose elements do not fit goes on for
`overflow` further pages. The root is a tree of buckets. A bucket's value is where its own tree is, or, of a small one,
an empty such header and the one page that it has. Numbers are little-endian.
"""

import struct

PAGE_BYTES = 4096
"""The size of the pages that are written. Readers take it from the meta page."""

MAGIC = 0xED0CDAED
VERSION = 2

BRANCH = 0x01
LEAF = 0x02
META = 0x04
FREELIST = 0x10
BUCKET = 0x01
"""The flag of a leaf's element whose value is a bucket."""

NO_FREELIST = (1 << 64) - 1

PAGE = struct.Struct("<QHHI")
"""A page's header: its number, its kind, how many elements it has, how many pages it goes on for."""

LEAF_ELEMENT = struct.Struct("<IIII")
"""An element of a leaf: flags, where its key begins, counted from the element, the bytes of its key and its value."""

BRANCH_ELEMENT = struct.Struct("<IIQ")
"""An element of a branch: where its key begins, counted from the element, the bytes of its key, its page."""

IN_BUCKET = struct.Struct("<QQ")
"""A bucket: the page of its root, 0 if that follows here; the last of the numbers that it has given out."""

META_FIELDS = struct.Struct("<IIIIQQQQQ")
"""Magic, version, bytes of a page, flags, the root's bucket, the list of free pages, how many pages there are, and the
transaction. A checksum follows."""

CHECKSUM = struct.Struct("<Q")

MOST_INLINE_BYTES = PAGE_BYTES // 4
"""A bucket whose only page is no larger lies in the root."""

MOST_ELEMENTS = 0xFFFF


def checksum(fields: bytes) -> int:
    """FNV-1a of a meta page's fields, 64 bits."""
    found = 0xCBF29CE484222325
    for byte in fields:
        found = (found ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return found
