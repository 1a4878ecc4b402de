"""The cost kernel as object code with C names: what `router.core.kernel` compiles to, without
Python.

numba's own LLVM of each function, all else made internal, what nobody calls then dropped (its
wrappers for Python are), emitted for the processor of this machine as numba itself does. No
arithmetic is compiled twice: so it is equal to the last bit, which a test holds it to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import llvmlite
import llvmlite.binding as llvm

from router.core import kernel_rows
from router.core.evaluation import evaluate
from router.core.jit import LlvmFunction, as_llvm, source_stamp
from router.core.kernel import choose
from router.core.obstacle import obstacle

# By its name in C; its convention is written down in source/kernel.c.
FUNCTIONS: Final[Mapping[str, Any]] = {
    "carbon_router_choose": choose,
    "carbon_router_evaluate": evaluate,
    "carbon_router_obstacle": obstacle,
}
# As numba's own optimisation of what it compiles (NUMBA_OPT).
_OPT: Final = 3


def kernel_objects() -> dict[str, bytes]:
    """File name -> relocatable object, one a function. Takes about ten seconds."""
    return {f"{name}.o": _object(name, as_llvm(one)) for name, one in FUNCTIONS.items()}


def kernel_stamp() -> str:
    """The same as long as `kernel_objects` gives the same: of sources, compiler and processor."""
    digest = hashlib.sha256(f"{llvmlite.__version__} {_cpu()} {_features()}".encode())
    for one in FUNCTIONS.values():
        digest.update(source_stamp(one.__module__).encode())
    return digest.hexdigest()


def rows_header() -> str:
    """`router.core.kernel_rows` for C, ``K_`` before each name."""
    rows = (
        f"#define K_{name} {value}\n"
        for name, value in vars(kernel_rows).items()
        if name.isupper() and isinstance(value, int)
    )
    return "#pragma once\n" + "".join(rows)


def _object(name: str, function: LlvmFunction) -> bytes:
    module = llvm.parse_assembly(function.assembly)
    entry = module.get_function(function.symbol)
    for one in (*module.functions, *module.global_variables):
        if not one.is_declaration and one.name != function.symbol:
            one.linkage = "internal"
    entry.name = name
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=_cpu(), features=_features(), opt=_OPT, reloc="pic", codemodel="default"
    )
    passes = llvm.create_new_module_pass_manager()
    # Else its wrappers for Python, which nobody calls, ask the linker for Python.
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))
    emitted: bytes = machine.emit_object(module)
    return emitted


def _cpu() -> str:
    return str(llvm.get_host_cpu_name())


def _features() -> str:
    return str(llvm.get_host_cpu_features().flatten())
