"""Reads untrusted XML into small nodes, and writes XML.

Reading refuses what AWS's protocols never need and attackers do: document types, entities, processing instructions,
deep nesting, very many elements or attributes. Writing is string building: `escape` for text, `Raw` for what is
already XML.
"""

from __future__ import annotations

import re
from xml.parsers import expat

BYTES_MAX = 4 * 1024 * 1024
ELEMENTS_MAX = 100_000  # CompleteMultipartUpload: 10,000 parts (S3's quota) of up to eight elements
DEPTH_MAX = 32
ATTRIBUTES_MAX = 1_000  # in all: a namespace here, a type there
# From one tag's beginning to the next one's: a tag's attributes are taken in at once, and that takes its time.
_LONG = re.compile(rb"<[^<]{65536}")


class XmlError(ValueError):
    """The text is not XML that we accept."""


class Node:
    """An element: its tag without namespace prefix, attributes as written, child elements, and its own text."""

    __slots__ = ("attributes", "children", "tag", "text")

    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag = tag
        self.attributes = attributes
        self.children: list[Node] = []
        self.text = ""

    def child(self, tag: str) -> Node | None:
        """The first child element of that tag, or None."""
        for node in self.children:
            if node.tag == tag:
                return node
        return None


def parse(data: bytes, *, bytes_max: int = BYTES_MAX, elements_max: int = ELEMENTS_MAX) -> Node:
    """The root element of a UTF-8 document. Raises XmlError."""
    if len(data) > bytes_max:
        raise XmlError(f"more than {bytes_max} bytes")
    if _LONG.search(data) is not None:
        raise XmlError("a tag or the text behind it is too long")
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.buffer_size = 65536
    document = Node("", {})
    stack = [document]
    count = attribute_count = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal count, attribute_count
        count += 1
        attribute_count += len(attributes)
        if attribute_count > ATTRIBUTES_MAX:
            raise XmlError(f"more than {ATTRIBUTES_MAX} attributes")
        if count > elements_max:
            raise XmlError(f"more than {elements_max} elements")
        if len(stack) > DEPTH_MAX:
            raise XmlError(f"more than {DEPTH_MAX} levels")
        node = Node(tag.rpartition(":")[2] if ":" in tag else tag, attributes)
        stack[-1].children.append(node)
        stack.append(node)

    def end(_tag: str) -> None:
        stack.pop()

    def text(data: str) -> None:
        stack[-1].text += data

    def refuse(*_: object) -> int:
        raise XmlError("document types, entities and processing instructions are not accepted")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.UnparsedEntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse
    parser.ProcessingInstructionHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise XmlError(str(error)) from None
    return document.children[0]


class Raw(str):
    """Text that is XML already: the serialiser puts it out as it is, in place of the member that it stands for."""

    __slots__ = ()


# Carriage returns would be normalised away by a reader; control characters are not XML 1.0, but S3 writes their
# references all the same (keys may hold them), and encoding-type=url is there for whoever can't read that.
_SPECIAL = re.compile('[&<>"\r\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]')
_CONTROL = re.compile("[\r\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def escape(text: str) -> str:
    """Text as it stands in an element or a double-quoted attribute."""
    if not _SPECIAL.search(text):
        return text
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    return _CONTROL.sub(lambda match: f"&#{ord(match.group())};", text) if _CONTROL.search(text) else text


DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'


def document(root: str, namespace: str | None, inner: str) -> bytes:
    """A whole document: the declaration and one root element around `inner`, which is XML already."""
    xmlns = f' xmlns="{namespace}"' if namespace else ""
    return f"{DECLARATION}<{root}{xmlns}>{inner}</{root}>".encode("utf-8", "surrogatepass")


def element(tag: str, text: str) -> str:
    """One element with text."""
    return f"<{tag}>{escape(text)}</{tag}>"
