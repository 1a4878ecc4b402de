"""The descriptor pool of our messages, apart from protobuf's default one.

Client libraries of the same protocol (tritonclient, kserve) register the same full names, such as
``inference.ModelInferRequest``, in the default pool with descriptors of their own; two different
files of one name in one pool are an error. A pool of our own lets both live in one process.
"""

from __future__ import annotations

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import Message

POOL = descriptor_pool.DescriptorPool()


def add_file(serialized: bytes) -> FileDescriptor:
    """Register one serialized ``FileDescriptorProto``; adding the same one twice changes nothing."""
    POOL.AddSerializedFile(serialized)
    return POOL.FindFileByName(FileDescriptorProto.FromString(serialized).name)


def message_class(full_name: str) -> type[Message]:
    """The class of a registered message; its nested messages are its attributes."""
    return _with_nested(POOL.FindMessageTypeByName(full_name))


def _with_nested(descriptor: Descriptor) -> type[Message]:
    cls = message_factory.GetMessageClass(descriptor)
    for nested in descriptor.nested_types:
        if not hasattr(cls, nested.name):
            setattr(cls, nested.name, _with_nested(nested))
    return cls
