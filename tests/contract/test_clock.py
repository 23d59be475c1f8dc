"""The clock of processes (docs/contracts/supervisor.md): equal bytes, time as asked, nothing left behind."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from benchmarks.clock.gate import CATALOGUE, Missing, Program, Result, run_once

from job_harness.errors import EnvironmentUnavailable, NothingToJudge, UsageError
from job_harness.worlds.clock import SOURCES, ClockedTree, build, compiler

PROGRAMS = Path(__file__).parents[2] / "benchmarks" / "clock" / "programs"
START = 1893456000000.0
AGREEMENT = re.compile(r"(.*) asked ([0-9.]+) passed ([0-9.]+)")
PYTHON = os.path.realpath(sys.executable)


@dataclass(frozen=True)
class Played:
    code: int
    output: str
    said: str
    stats: dict[str, Any]


Play = Callable[..., Played]


@pytest.fixture(scope="module")
def supervisor() -> Path:
    try:
        program = build()
    except EnvironmentUnavailable as why:
        pytest.skip(f"no clock of processes here: {why}")
    tried = subprocess.run([program, "--", "true"], capture_output=True, text=True, check=False)
    if tried.returncode == 125:
        pytest.skip(f"no clock of processes here: {tried.stderr.strip()}")
    return program


@pytest.fixture
def play(supervisor: Path, tmp_path: Path) -> Play:
    def run(*command: str, options: tuple[str, ...] = (), fds: tuple[int, ...] = ()) -> Played:
        done = subprocess.run(
            [supervisor, "--seed", "7", "--limit", "60", "--stats", *options, "--", *command],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"]},
            pass_fds=fds,
            check=False,
        )
        *said, stats = done.stderr.splitlines()
        return Played(done.returncode, done.stdout, "\n".join(said), json.loads(stats))

    return run


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[[str], str]:
    def program(source: str) -> str:
        (tmp_path / "program.c").write_text(source)
        where = str(tmp_path / "program")
        subprocess.run([*compiler(), "-O1", "-o", where, str(tmp_path / "program.c"), "-lpthread"], check=True)
        return where

    return program


def test_the_supervisor_compiles_for_the_processor_on_which_it_was_never_run(tmp_path: Path) -> None:
    if found := shutil.which("aarch64-linux-gnu-gcc"):
        compile_it = [found]
    elif importlib.util.find_spec("ziglang") is not None:
        compile_it = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-gnu"]
    else:
        pytest.skip("neither aarch64-linux-gnu-gcc nor the package ziglang is here")
    subprocess.run([*compile_it, "-o", tmp_path / "supervisor", SOURCES / "supervisor.c"], check=True)


def test_every_wait_and_timer_of_c_takes_the_time_that_was_asked(play: Play, compiled: Callable[[str], str]) -> None:
    program = compiled((PROGRAMS / "waits.c").read_text())
    runs = [play(program) for _ in range(3)]
    agreements = AGREEMENT.findall(runs[0].output)
    assert len(agreements) == 39
    assert {
        what: (asked, passed) for what, asked, passed in agreements if abs(float(asked) - float(passed)) > 0.01
    } == {}
    assert runs[0].code == 3, "the program's own exit code"
    assert runs[0].stats["virtual"] > 4000
    assert len({(run.output, run.stats["hash"]) for run in runs}) == 1


@pytest.mark.parametrize("script", ["threads.py", "loops.py", "parked.py"])
def test_a_python_program_prints_the_same_bytes_in_every_run(play: Play, script: str) -> None:
    runs = [play(PYTHON, str(PROGRAMS / script)) for _ in range(4)]
    assert [run.code for run in runs] == [0] * 4, runs[0].said
    assert len({(run.output, run.stats["hash"]) for run in runs}) == 1
    assert all(abs(float(asked) - float(passed)) < 0.01 for _, asked, passed in AGREEMENT.findall(runs[0].output))


IN_EACH_LANGUAGE = [
    pytest.param(each, id=each.name, marks=[pytest.mark.long] if each.name.startswith(("Java", "Node")) else [])
    for each in CATALOGUE
    if "everything" in each.name
]


@pytest.mark.parametrize("program", IN_EACH_LANGUAGE)
def test_every_clock_sleep_timer_and_source_of_chance_is_the_worlds_in_each_language(
    supervisor: Path, tmp_path: Path, program: Program
) -> None:
    try:
        command = program.prepare(tmp_path)
    except (Missing, subprocess.CalledProcessError) as why:
        pytest.skip(str(why))
    result = Result()
    for _ in range(2):
        run_once(supervisor, ["--seed", "7"], command, tmp_path, result)
    assert (result.failures, result.disagreements) == ([], [])
    assert len(result.outputs) == 1
    if not program.name.startswith(("Java", "Node")):  # Java's compilers once took another history to the same bytes.
        assert len({each["hash"] for each in result.stats}) == 1
    assert result.median("virtual") > 3000


WAITID = """
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
int main(void) {
  for (int named = 0; named < 2; named++) {
    siginfo_t info;
    time_t begun = time(NULL);
    pid_t child = fork();
    if (!child) { sleep(5); _exit(7); }
    if (waitid(P_PID, (id_t)child, named ? &info : NULL, WEXITED)) return 1;
    printf("%ld %d\\n", (long)(time(NULL) - begun), named ? info.si_status : -1);
  }
}
"""


def test_whoever_waits_for_a_child_by_waitid_learns_of_its_end(play: Play, compiled: Callable[[str], str]) -> None:
    assert play(compiled(WAITID)).output == "5 -1\n5 7\n"


def test_the_uptime_of_the_machine_is_the_worlds(play: Play) -> None:
    ran = play("sh", "-c", "cat /proc/uptime; sleep 3600; cut -d. -f1 /proc/uptime; exec tail -c 6 /proc/uptime")
    first, second, rest = ran.output.splitlines()
    assert int(second) - int(float(first.split()[0])) == 3600
    assert rest == " 0.00", "a read from the middle of the file"


def test_chance_comes_from_the_seed(play: Play) -> None:
    program = (
        "import os, random, uuid\nwith open('/dev/urandom', 'rb') as device: drawn = device.read(8)\n"
        "print(random.random(), uuid.uuid4(), os.urandom(8).hex(), hash('a'), drawn.hex())"
    )
    first, again = play(PYTHON, "-c", program), play(PYTHON, "-c", program)
    other = play(PYTHON, "-c", program, options=("--seed", "8"))
    assert first.output == again.output
    drawn = zip(first.output.split(), other.output.split(), strict=False)
    assert all(one != two for one, two in drawn)


LOCK = (
    "import threading\nlock = threading.Lock(); lock.acquire()\n"
    "def work(n):\n with lock: print(n)\n"
    "pool = [threading.Thread(target=work, args=(n,)) for n in range(6)]\n"
    "for each in pool: each.start()\nlock.release()\nfor each in pool: each.join()"
)


def test_the_order_of_threads_comes_from_the_tape_or_from_the_seed(play: Play) -> None:
    def order(*options: str) -> str:
        return "".join(play(PYTHON, "-c", LOCK, options=options).output.split())

    assert order() == order("--tape", "0,0,0,0") == "012345"
    assert order("--tape", "1") == order("--tape", "1") == "102345"
    assert order("--tape", "5,5,5") not in ("012345", "102345")
    shuffled = [order("--shuffle", "--seed", str(seed)) for seed in (1, 2, 3, 1, 2, 3)]
    assert shuffled[:3] == shuffled[3:]
    assert len(set(shuffled)) > 1


def test_a_pipe_that_is_full_waits_for_its_reader(play: Play) -> None:
    script = "head -c 3000000 /dev/zero | cksum; dd if=/dev/zero bs=5k count=600 2>/dev/null | cksum"
    told = play("sh", "-c", script)
    alone = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert told.output == alone.stdout
    assert told.stats["blocked"] == 0


def test_signals_between_processes_arrive_in_their_time(play: Play) -> None:
    told = play(
        "sh",
        "-c",
        "trap 'echo caught' USR1; (sleep 2; kill -USR1 $$; sleep 5) & wait; wait;"
        "(sleep 3; echo woken) & p=$!; sleep 1; kill -STOP $p; sleep 10; kill -CONT $p; wait $p; date +%s",
    )
    assert told.output.split() == ["caught", "woken", "1767225618"]


def test_locks_between_processes_are_handed_on(play: Play) -> None:
    program = (
        "import fcntl, os, time\nbegun = time.monotonic()\n"
        "for n in range(4):\n if not os.fork():\n"
        "  file = open('lock', 'w'); (fcntl.flock if n % 2 else fcntl.lockf)(file, fcntl.LOCK_EX)\n"
        "  time.sleep(10); print(n, round(time.monotonic() - begun), flush=True); os._exit(0)\n"
        "for _ in range(4): os.wait()"
    )
    assert play(PYTHON, "-c", program).output.split("\n")[:4] == ["0 10", "1 10", "2 20", "3 20"]


def test_the_exit_code_passes_through(play: Play) -> None:
    assert play("sh", "-c", "exit 9").code == 9
    assert play("sh", "-c", "kill -SEGV $$").code == 128 + signal.SIGSEGV
    missing = play("no-such-program")
    assert missing.code == 127
    assert "no-such-program" in missing.said


def test_a_thread_that_spins_without_a_call_is_named_and_loses_its_turn(
    play: Play, compiled: Callable[[str], str]
) -> None:
    program = compiled(
        "#include <pthread.h>\n#include <unistd.h>\nstatic volatile int flag;\n"
        "static void *spin(void *a) { while (!flag) {} return a; }\n"
        "int main(void) { pthread_t t; pthread_create(&t, 0, spin, 0); sleep(5); flag = 1; return pthread_join(t, 0); }"
    )
    told = play(program, options=("--spin", "100"))
    assert told.code == 0
    assert told.stats["preempted"] > 0
    assert "thread 2 (program) of process 1 has computed for 100 ms without a call" in told.said


def test_a_program_that_never_ends_is_named_at_the_limit(play: Play) -> None:
    told = play("sh", "-c", "while :; do :; done", options=("--limit", "1"))
    assert told.code == 124
    assert "the limit of 1 s was reached; thread 1 (sh) of process 1 was running" in told.said


def test_a_program_that_spins_on_the_clock_ends(play: Play) -> None:
    told = play(PYTHON, "-c", "import time\nend = time.time() + 3600\nwhile time.time() < end: pass\nprint('done')")
    assert told.output == "done\n"
    assert told.stats["stops"] < 10_000


ORPHAN = (
    "import os, time\nif not os.fork():\n os.setsid()\n if not os.fork(): time.sleep(1e6)\n os._exit(0)\n"
    "os.wait(); print('up', flush=True)\n"
)


def test_a_daemon_that_forks_twice_ends_with_its_world(play: Play) -> None:
    read, write = os.pipe()
    assert play(PYTHON, "-c", ORPHAN, fds=(write,)).output == "up\n"
    os.close(write)
    assert os.read(read, 1) == b"", "whoever still held the pipe would keep it open"
    os.close(read)


def test_everything_ends_with_a_supervisor_that_is_killed(supervisor: Path) -> None:
    read, write = os.pipe()
    silent, never = os.pipe()
    process = subprocess.Popen(
        [supervisor, "--", PYTHON, "-c", ORPHAN + f"os.read({silent}, 1)"],
        stdout=subprocess.PIPE,
        pass_fds=(write, silent, never),
    )
    os.close(write)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.kill()
    process.wait()
    assert os.read(read, 1) == b""
    process.stdout.close()
    for descriptor in (read, silent, never):
        os.close(descriptor)


def test_a_program_that_forks_without_end_is_named_and_ended(supervisor: Path, compiled: Callable[[str], str]) -> None:
    read, write = os.pipe()
    program = compiled("#include <unistd.h>\nint main(void) { for (;;) if (fork() < 0) sleep(1); }")
    done = subprocess.run(
        [supervisor, "--", program], stderr=subprocess.PIPE, text=True, pass_fds=(write,), check=False
    )
    os.close(write)
    assert done.returncode == 125
    assert "the program starts processes without end" in done.stderr
    assert os.read(read, 1) == b"", "a process of it lives"
    os.close(read)


def test_a_thousand_descriptors_are_waited_for(play: Play) -> None:
    program = (
        "import resource, select, socket, time\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)\n"
        "pairs = [socket.socketpair() for _ in range(1000)]\npoll = select.poll()\n"
        "for one, _ in pairs: poll.register(one, select.POLLIN)\n"
        "t = time.time(); print(poll.poll(5000), round(time.time() - t, 3))"
    )
    told = play(PYTHON, "-c", program)
    assert told.output == "[] 5.0\n", told.said
    assert told.stats["blocked"] == 0


TICKS = (
    "import time, signal, sys\nsignal.signal(15, lambda *_: sys.exit(5))\n"
    "while True: print(sys.argv[1], round(time.time() - 1893456000), flush=True); time.sleep(60)"
)


def test_a_driver_moves_time_and_makes_faults(supervisor: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    with ClockedTree(seed=3, start=START) as clock:
        one = clock.start([PYTHON, "-c", TICKS, "one"], output=output)
        two = clock.start([PYTHON, "-c", TICKS, "two"], output=output)
        assert clock.next == pytest.approx(START + 60_000, abs=50)
        clock.move(START + 90_000)
        assert clock.now == pytest.approx(START + 90_000, abs=1)
        clock.pause(one)
        clock.move(START + 230_000)
        clock.resume(one)
        clock.signal(two, signal.SIGTERM)
        assert clock.exits == {two: 5}
        clock.shift(one, offset=3_600_000)
        clock.move(clock.now + 60_000)
        clock.step_wall(-86_400_000)
        clock.move(clock.now + 60_000)
        with pytest.raises(UsageError, match="there is no such process"):
            clock.kill(99)
        clock.kill(one)
        assert clock.exits == {two: 5, one: 128 + signal.SIGKILL}
        assert clock.next is None
    seen = [line.split() for line in output.read_text().splitlines()]
    assert [int(at) for name, at in seen if name == "two"] == [0, 60, 120, 180]
    assert [int(at) for name, at in seen if name == "one"] == [0, 60, 230, 3890, 3950 - 86_400]


def test_a_process_whose_clock_drifts_wakes_early(supervisor: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    with ClockedTree(start=START) as clock:
        one = clock.start([PYTHON, "-c", TICKS, "fast"], output=output)
        clock.shift(one, drift=1_000_000)
        clock.move(START + 125_000)
    assert [line.split()[1] for line in output.read_text().splitlines()] == ["0", "60", "120", "180", "240"]


def test_a_process_that_has_ended_by_itself_is_told_nothing(supervisor: Path) -> None:
    with ClockedTree(start=START) as clock:
        one = clock.start(["true"])
        clock.move(START + 1_000)
        assert clock.exits == {one: 0}
        clock.shift(one, offset=1.0)
        clock.signal(one, signal.SIGTERM)
        clock.move(START + 2_000)


def test_a_world_at_rest_that_was_left_alone_is_not_asked_again(supervisor: Path) -> None:
    with ClockedTree(start=START) as clock:
        one = clock.start([PYTHON, "-c", TICKS, "one"])
        clock.move_to(int(START) * 1000 + 500_000)
        asked = clock._turn
        clock.move_to(clock.moment)
        assert clock._turn == asked
        for act in (lambda: clock.shift(one, offset=1.0), lambda: clock.move_to(clock.moment + 1)):
            act()
            clock.move_to(clock.moment)
        assert clock._turn > asked + 2


def test_a_world_that_was_given_up_gives_the_same_reason_until_it_is_closed(supervisor: Path) -> None:
    clock = ClockedTree(patience=0)
    acts: list[Callable[[], object]] = [
        lambda: clock.start(["sh", "-c", "while :; do :; done"]),
        clock.run,
        lambda: clock.move(START),
        lambda: clock.listen(80),
        lambda: clock.reset(START),
    ]
    for act in acts:
        with pytest.raises(NothingToJudge, match="process 1, thread 1: sh did not come to rest within 0 real"):
            act()
    clock.sever(1)
    clock.close()
    clock.close()


def test_a_supervisor_that_somebody_else_has_killed_is_told_each_time(supervisor: Path) -> None:
    with ClockedTree() as clock:
        process = clock.start(["sleep", "1000"])
        clock._process.kill()
        clock.sever(process)
        for _ in range(2):
            with pytest.raises(EnvironmentUnavailable, match="the clock's supervisor ended with code -9"):
                clock.run()


@pytest.mark.long
@pytest.mark.parametrize(
    "program", ["PostgreSQL", "BullMQ", "worker_threads", "JVM", "uvloop", "Go, gor", "Ruby, thr", "PHP"]
)
def test_the_gate_is_passed(supervisor: Path, program: str) -> None:
    gate = PROGRAMS.parent / "gate.py"
    command = [
        sys.executable,
        str(gate),
        "--runs",
        "2",
        "--busy",
        "1",
        "--only",
        program,
        "--supervisor",
        str(supervisor),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "left out" in done.stdout:
        pytest.skip(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_machine_without_ptrace_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refuses = tmp_path / "supervisor"
    said = json.dumps({"idle": 0, "fatal": "ptrace is not allowed here (Operation not permitted)"})
    where = "int(sys.argv[sys.argv.index('--control') + 1].split(',')[1])"
    refuses.write_text(f"#!{PYTHON}\nimport os, sys\nos.write({where}, {said.encode() + bytes([10])!r})\n")
    refuses.chmod(0o755)
    monkeypatch.setattr("job_harness.worlds.clock.build", lambda: refuses)
    with pytest.raises(EnvironmentUnavailable, match="ptrace is not allowed here") as told:
        ClockedTree()
    assert told.value.exit_code == 4
    assert "--cap-add SYS_PTRACE" in told.value.hint
