"""What nvcc makes of csrc/cuda, and the library with it; where there is no nvcc, skipped.

ptxas says whether registers spill; the machine code whether the instructions meant are there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from toolchain import ROOT, find, output

import shared_dense as sd
from shared_dense.runtime import loader

PIP = Path(sysconfig.get_path("purelib")) / "nvidia/cu13/bin"


def tool(name):
    """A program of the CUDA toolkit: installed, or pip's."""
    for path in (None, "/usr/local/cuda/bin", str(PIP)):
        if found := shutil.which(name, path=path):
            return found
    return pytest.skip(f"needs {name} (a CUDA toolkit, or pip install nvidia-cuda-{name})")


def compiled(source, architecture, target):
    """Compiles a file of kernels; ptxas's report."""
    command = [
        tool("nvcc"), "-std=c++17", "-O3", "-DNDEBUG", "--expt-relaxed-constexpr", "-Xptxas", "-v",
        f"-gencode=arch=compute_{architecture},code=sm_{architecture}", "-I", ROOT / "csrc",
        "-c", source, "-o", target,
    ]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def check_program(tmp_path_factory):
    """The folder of what tests/cuda/run.sh builds: the program, its objects, ptxas's reports."""
    folder = tmp_path_factory.mktemp("check")
    nvcc = tmp_path_factory.mktemp("nvcc") / "nvcc"
    nvcc.write_text(  # what it makes is its last argument
        "#!/bin/sh\nfor target; do :; done\n"
        f'{tool("nvcc")} "$@" -Xptxas -v 2> "$target.report" && exit\n'
        'cat "$target.report" >&2\nexit 1\n'
    )
    nvcc.chmod(0o755)
    done = subprocess.run(
        ["bash", ROOT / "tests/cuda/run.sh", "--build", folder],
        env=os.environ | {"SHARED_DENSE_NVCC": str(nvcc)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def of_program(folder, name):
    """An object of the program, for sm_80 or sm_90a, and ptxas's report of it."""
    target = folder / f"{name}.cu.o"
    return target, target.with_name(f"{target.name}.report").read_text()


@pytest.fixture(scope="module", params=["80", "90"])
def architecture(request):
    return request.param


@pytest.fixture(scope="module", params=["bfloat16", "float", "tf32"])
def built(request, architecture, check_program, tmp_path_factory):
    """dtype, object file and ptxas's report of one file of kernels."""
    dtype = request.param
    if architecture == "80":
        return dtype, *of_program(check_program, f"product_{dtype}")
    target = tmp_path_factory.mktemp("cuda") / f"{dtype}.o"
    return dtype, target, compiled(ROOT / f"csrc/cuda/product_{dtype}.cu", architecture, target)


def test_no_register_spills(built):
    _, _, report = built
    lines = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+)", report)
    assert len(lines) >= 8, report
    assert set(lines) == {("0", "0", "0")}, report


def test_registers_let_blocks_share_a_multiprocessor(built):
    """Two blocks of 256 threads of the large tile on tensor cores, one in float32."""
    dtype, _, report = built
    most = max(map(int, re.findall(r"Used (\d+) registers", report)))
    assert most <= (255 if dtype == "float" else 128)


MULTIPLIES = {"bfloat16": "HMMA.16816.F32.BF16", "tf32": "HMMA.1688.F32.TF32", "float": "FFMA"}


def test_machine_code_has_the_instructions_meant(built):
    dtype, target, _ = built
    listing = output(tool("cuobjdump"), "-sass", target)
    kernels = re.split(r"\n\s*Function : ", listing)[1:]
    assert len(kernels) == 8, "two layouts of three tiles, and dW on two"
    for kernel in kernels:
        name = kernel.partition("\n")[0]
        code = set(re.findall(r"\b[A-Z][A-Z0-9]*(?:\.[A-Z0-9]+)*\b", kernel))
        assert "LDGSTS.E.BYPASS.128" in code, f"{name}: no 16-byte asynchronous copies"
        assert not {c for c in code if re.match(r"(LDL|STL)\b", c)}, f"{name}: local memory"
        assert code & {"STG.E.64", "STG.E.128"}, f"{name}: results leave item by item"
        multiplies = MULTIPLIES[dtype]
        assert multiplies in code, f"{name}: no {multiplies}"


@pytest.fixture(scope="module")
def hopper(check_program):
    """ptxas's report and the machine code of each kernel of compute capability 9.0."""
    target, report = of_program(check_program, "hopper_bfloat16")
    listing = output(tool("cuobjdump"), "-sass", target)
    kernels = dict(k.split("\n", 1) for k in re.split(r"\n\s*Function : ", listing)[1:])
    return report, kernels


def test_hopper_kernels_do_not_spill_and_multiply_asynchronously(hopper):
    report, kernels = hopper
    assert len(kernels) == 12, "two layouts of five tiles, and dW on two"
    lines = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+)", report)
    assert len(lines) == 12, report
    assert set(lines) == {("0", "0", "0")}, report
    # C7510 says that multiplies wait for one another, C7508 that setmaxnreg is ignored.
    assert not re.findall(r".*(?:C75\d\d|serializ|warning).*", report)
    most = [int(n) for n in re.findall(r"Used (\d+) registers", report)]
    # 384 threads have 168 each, which setmaxnreg shares out; two blocks of 256 have 128.
    assert sorted(most)[-8:] == [168] * 8, most
    assert sorted(most)[3] <= 128, most


def test_hopper_machine_code_has_the_instructions_meant(hopper):
    _, kernels = hopper
    for name, kernel in kernels.items():
        code = re.findall(r"\b[A-Z][A-Z0-9]*(?:\.[A-Z0-9x]+)*\b", kernel)
        few = "BFloat16ELi1E" in name  # one warpgroup multiplies
        wide = {c for c in code if c.startswith("HGMMA.64x")}
        assert len(wide) == 1, f"{name}: {wide}"
        assert wide.pop().endswith("x16.F32.BF16")
        assert "STG.E.128" in code, f"{name}: results leave item by item"
        assert "LDGSTS.E.BYPASS.128" in code, f"{name}: no 16-byte asynchronous copies"
        by_engine = {c for c in code if c.startswith("UTMALDG")}
        # Blocks of a pair share one operand: all that they fetch so of Y and dX, half of dW.
        wanted = {"UTMALDG.2D.MULTICAST"} if "ELi256E" in name else {"UTMALDG.2D"}
        if "hopper_sum" in name:
            wanted.add("UTMALDG.2D")
        assert by_engine == wanted, f"{name}: {by_engine}"
        # Releasing a stage publishes no writes: no fence of the device in the loop.
        loop = kernel[kernel.index("HGMMA") : kernel.rindex("WARPGROUP.DEPBAR")]
        assert "MEMBAR" not in loop, f"{name}: a fence between multiplies"
        assert not {c for c in code if re.match(r"(LDL|STL)\b", c)}, f"{name}: local memory"
        assert any(c.startswith("USETMAXREG") for c in code) != few, f"{name}: registers"


def test_the_benchmark_compiles(tmp_path):
    """bench/cuda/measure.cc; with cuBLASLt where its headers are."""
    output(
        tool("nvcc"), "-std=c++17", "-O0", "--expt-relaxed-constexpr", "-arch=sm_80",
        *("-I", ROOT / "csrc", "-I", ROOT / "tests/cuda", "-x", "cu"),
        *("-c", ROOT / "bench/cuda/measure.cc", "-o", tmp_path / "measure.o"),
    )  # fmt: skip


@pytest.fixture
def gpu_library():
    path = next(loader.PACKAGE.glob("_gpu_tf*.so"), None)
    if path is None:
        pytest.skip("built without CUDA")
    return path


def test_the_build_says_whether_it_has_cuda(gpu_library):
    assert loader.build_info()["cuda"] is True
    assert sd.status().cuda
    assert "never been run on a GPU" in sd.status().gpu


def test_the_library_needs_no_driver_and_no_runtime(gpu_library):
    """CUDA's runtime is inside: none of it is asked of TensorFlow, which may have another."""
    asked = output("nm", "-D", "--undefined-only", gpu_library)
    assert not re.findall(r" U _*(cuda\w+|cu[A-Z]\w+)", asked)
    given = output("nm", "-D", "--defined-only", gpu_library)
    assert not re.findall(r"\bcuda[A-Z]\w+", given), "others would take our runtime"


def test_gpu_kernels_register_where_asked(gpu_library, tmp_path):
    """With tensorflow and no GPU: the library opens, and calls run on the CPU as before."""
    program = """
import shared_dense as sd, tensorflow as tf
from tensorflow.python.framework import kernels
y = sd.shared_matmul([tf.ones([2, 3])], tf.ones([3, 4]))
assert y[0].numpy().tolist() == [[3.0] * 4] * 2
status = sd.status()
assert status.gpu == "", status.gpu
assert "float32" in status.dtypes["GPU"]
for op in ("SharedDense>SharedMatMul", "SharedDense>SharedMatMulGrad"):
    found = [k.device_type for k in kernels.get_registered_kernels_for_op(op).kernel]
    assert found.count("GPU") == found.count("CPU") == 4, found
print("well")
"""
    environment = {"PYTHONPATH": str(loader.PACKAGE.parent), "SHARED_DENSE_GPU": "1"}
    done = subprocess.run(
        [shutil.which("python3", path=sysconfig.get_path("scripts")), "-c", program],
        env=environment | {"PATH": "/usr/bin:/bin", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout == "well\n", done.stderr[-2000:]


def test_the_check_for_gpu_machines_builds(check_program):
    """tests/cuda/run.sh; without a driver the program says so and fails, and checks nothing."""
    if not Path("/dev/nvidia0").exists():
        ran = subprocess.run([check_program / "check"], capture_output=True, text=True)
        assert ran.returncode == 1
        assert "CUDA: " in ran.stderr
        environment = os.environ | {"SHARED_DENSE_NVCC": tool("nvcc")}
        script = ["bash", ROOT / "tests/cuda/run.sh"]
        done = subprocess.run(script, env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr[:20]) == (2, "run.sh: no GPU here;")


def test_the_check_says_what_it_lacks():
    environment = os.environ | {"SHARED_DENSE_NVCC": "/no/nvcc"}
    done = subprocess.run(
        ["bash", ROOT / "tests/cuda/run.sh"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "no nvcc" in done.stderr and "pip install nvidia-cuda-nvcc" in done.stderr


def configured(folder, nvcc, wanted):
    """What cmake/Cuda.cmake says where this is the only nvcc, if any; and whether it goes on."""
    cmake = find("cmake")
    (folder / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.22)\nproject(test LANGUAGES CXX)\n"
        f"find_package(Threads)\ninclude({ROOT}/cmake/Cuda.cmake)\n"
        'message(STATUS "built: ${shared_dense_cuda}")\n'
    )
    # Folders in which an nvcc would be found.
    hidden = {*os.environ["PATH"].split(os.pathsep), "/usr/local/cuda/bin", str(PIP)}
    hidden |= {str(Path(path).resolve()) for path in hidden}
    command = [
        cmake, "-S", folder, "-B", folder / "build", f"-DSHARED_DENSE_CUDA={wanted}",
        f"-DPython3_EXECUTABLE={sys.executable}",
        *([f"-DSHARED_DENSE_NVCC={nvcc}"] if nvcc else []),
        f"-DCMAKE_CXX_COMPILER={find('g++')}", f"-DCMAKE_MAKE_PROGRAM={find('make', 'ninja')}",
        f"-DCMAKE_IGNORE_PATH={';'.join(hidden)}", "-G", "Unix Makefiles",
    ]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if k not in ("CUDA_HOME", "CUDA_PATH")}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_cuda_asked_for_without_nvcc_says_what_to_install(tmp_path):
    code, said = configured(tmp_path, None, "on")
    assert code == 1
    assert "SHARED_DENSE_CUDA=on, but there is no nvcc" in said
    assert "pip install nvidia-cuda-nvcc nvidia-cuda-runtime" in said
    code, said = configured(tmp_path, None, "auto")
    assert code == 0
    assert "CUDA: not built, no nvcc" in said and "built: FALSE" in said


def test_an_nvcc_too_old_or_not_whole_is_told(tmp_path):
    nvcc = tmp_path / "nvcc"
    nvcc.write_text(
        f"#!/bin/sh\necho '#$ TOP={tmp_path}'\necho 'Cuda compilation tools, release 11.8, V11'\n"
    )
    nvcc.chmod(0o755)
    code, said = configured(tmp_path, nvcc, "on")
    assert code == 1 and "has no libcudart_static.a (pip install nvidia-cuda-runtime)" in said
    (tmp_path / "lib64").mkdir()
    (tmp_path / "lib64/libcudart_static.a").touch()
    code, said = configured(tmp_path, nvcc, "on")
    assert code == 1 and "is CUDA 11.8; 12.0 or later is needed" in said


def test_a_wrong_word_for_cuda_is_an_error(tmp_path):
    code, said = configured(tmp_path, None, "yes")
    assert code == 1 and "must be auto, on or off" in said
