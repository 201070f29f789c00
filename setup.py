"""Extension modules; everything else about the package is in pyproject.toml."""

import os
import platform
import sys
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

KERNELS = ("separable", "median", "warp", "tensor", "solver")
X86_64 = platform.machine().lower() in ("x86_64", "amd64")
LIMITED_API = ("Py_LIMITED_API", "0x030B0000")


def variants(msvc):
    """Compiler flags of every instruction set the kernels are built for, by the suffix of their tables."""
    if not X86_64 or os.environ.get("ARCHFLAGS", "").find("arm64") >= 0:
        return {"base": []}
    if msvc:
        return {"v2": [], "v3": ["/arch:AVX2"], "v4": ["/arch:AVX512"]}
    return {
        "v2": ["-march=x86-64-v2"],
        "v3": ["-march=x86-64-v3"],
        "v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
    }


def check_compiler(compiler):
    """Say in one sentence that there is no C compiler, rather than in the words of whatever needs it first."""
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder, "probe.c")
        probe.write_text("int main(void) { return 0; }\n")
        try:
            compiler.compile([str(probe)], output_dir=folder)
        except Exception as error:  # every compiler class raises its own
            raise CompileError(
                f"building pyflow-2p needs a C compiler, and none works here ({error}): install one (gcc on Debian, "
                "c-compiler on conda, xcode-select --install on macOS, Build Tools for Visual Studio), or a wheel"
            ) from None


def openmp_flags(compiler, msvc):
    """Compile and link flags for OpenMP, empty where it does not work; PYFLOW_OPENMP=0 turns it off."""
    if os.environ.get("PYFLOW_OPENMP", "1") == "0":
        return [], []
    candidates = [(["/openmp"], [])] if msvc else [(["-fopenmp"], ["-fopenmp"])]
    if sys.platform == "darwin":
        candidates.append((["-Xpreprocessor", "-fopenmp"], ["-lomp"]))
    source = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"
    for compile_flags, link_flags in candidates:
        with tempfile.TemporaryDirectory() as folder:
            probe = Path(folder, "probe.c")
            probe.write_text(source)
            try:
                objects = compiler.compile([str(probe)], output_dir=folder, extra_postargs=compile_flags)
                compiler.link_executable(objects, "probe", output_dir=folder, extra_postargs=link_flags)
            except Exception as error:  # every compiler class raises its own
                print(f"OpenMP probe with {compile_flags} failed: {error}", file=sys.stderr)
            else:
                return compile_flags, link_flags
    print("warning: no OpenMP: one frame will run on one thread (frames still run in parallel)", file=sys.stderr)
    return [], []


class BuildKernels(build_ext):
    """Compile each kernel once per instruction set and link all variants into its binding."""

    def build_extensions(self):
        msvc = self.compiler.compiler_type == "msvc"
        # no contraction, no reassociation: all variants give the same bits
        exact = ["-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
        common = ["/O2", "/fp:precise"] if msvc else ["-O3", "-fopenmp-simd", *exact]
        check_compiler(self.compiler)
        self.openmp = openmp_flags(self.compiler, msvc)
        self.variants = variants(msvc)
        self.common = common
        super().build_extensions()

    def build_extension(self, extension):
        compile_flags, link_flags = self.openmp
        topic = extension.name.rsplit("_", 1)[-1]
        if topic in KERNELS:
            for isa, flags in self.variants.items():
                extension.extra_objects += self.compiler.compile(
                    [f"csrc/{topic}.c"],
                    output_dir=str(Path(self.build_temp, isa)),
                    macros=[("PF_ISA", isa)],
                    include_dirs=["csrc"],
                    extra_postargs=self.common + flags + compile_flags,
                    depends=extension.depends,
                )
        extension.extra_link_args += link_flags
        super().build_extension(extension)


def extension(topic, sources=()):
    headers = sorted(str(path) for path in Path("csrc").glob("*.h"))
    return Extension(
        f"pyflow._ext._{topic}",
        [f"pyflow/_ext/_{topic}.pyx", *sources],
        include_dirs=["csrc"],
        define_macros=[LIMITED_API],
        py_limited_api=True,
        # also what a source distribution holds beside the sources
        depends=[*headers, f"pyflow/_ext/_{topic}.pyx", f"csrc/{topic}.c"],
    )


setup(
    ext_modules=cythonize(
        [extension("simd", ["csrc/simd.c"])] + [extension(topic) for topic in KERNELS],
        compiler_directives={"language_level": 3, "boundscheck": False, "wraparound": False},
        include_path=["csrc"],
    ),
    cmdclass={"build_ext": BuildKernels},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
