"""The machine's shell: lines as they are typed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskscope.model.user.programs.sh_parse import ShellSyntaxError, parse


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("echo a b", "a b\n"),
        ("echo 'a  b' \"$HOME\" \\$x", "a  b /root $x\n"),
        ("x=1; echo $x${x}y", "11y\n"),
        ("echo one; echo two", "one\ntwo\n"),
        ("true && echo yes || echo no", "yes\n"),
        ("false && echo yes || echo no", "no\n"),
        ("! false && echo yes", "yes\n"),
        ("echo hi | cat | cat", "hi\n"),
        ("false | true; echo $?", "0\n"),
        ("/bin/false; echo $?", "1\n"),
        ("nosuch; echo $?", "bash: nosuch: command not found\n127\n"),
        ("echo $(echo a; echo b)", "a b\n"),
        ('echo "$(echo a; echo b)"', "a\nb\n"),
        ("echo `whoami`", "root\n"),
        ("echo x > /tmp/f; echo y >> /tmp/f; cat < /tmp/f", "x\ny\n"),
        ("cat /nosuch 2> /dev/null; echo $?", "1\n"),
        ("ls /nosuch > /tmp/g 2>&1; cat /tmp/g", "ls: cannot access '/nosuch': No such file or directory\n"),
        ("for i in 1 2 3; do echo $i; done", "1\n2\n3\n"),
        ("i=0; while [ $i -ne 3 ]; do i=$i; echo $i; if [ $i = 0 ]; then i=3; fi; done", "0\n"),
        ("if [ -f /etc/passwd ]; then echo there; else echo not; fi", "there\n"),
        ("(cd /tmp; pwd); pwd", "/tmp\n/root\n"),
        ("{ echo a; echo b; } | wc -l", "2\n"),
        ("sleep 100 & kill -9 $!; wait $!; echo $?", "137\n"),
        ("sleep 100 & kill $!; wait $!; echo $?", "143\n"),
        ("echo $$ | grep -v 0x >/dev/null && echo pid", "pid\n"),
        ("bash -c 'echo $0 $1' name arg", "name arg\n"),
        ("X=5 bash -c 'echo $X'; echo [$X]", "5\n[]\n"),
        ("export Y=6; bash -c 'echo $Y'", "6\n"),
        ("echo /bin/raspbian_*", "/bin/raspbian_exit /bin/raspbian_fork /bin/raspbian_proc\n"),
        ("echo copy_process*", "copy_process*\n"),
        ("yes | head -n 2", "y\ny\n"),
        ("exec echo gone; echo not here", "gone\n"),
        ("set -e; false; echo not here", ""),
        ("printf '%s-%d\\n' a 1 b 2", "a-1\nb-2\n"),
        (
            "kill -l | head -1 | grep -v nothing",
            (
                "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP "
                "TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS\n"
            ),
        ),
    ],
)
def test_line(ran, line: str, printed: str):
    """A line does what it does in bash."""
    assert ran("bash", "-c", line)[1] == printed


def test_exit_status(ran):
    """The status of the shell is that of the last command, or what exit says."""
    assert ran("bash", "-c", "true; false")[0] == 1
    assert ran("bash", "-c", "exit 42")[0] == 42


def test_script(ran, k):
    """A file with #! is run by the program that it names."""
    k.write("/tmp/s.sh", "#!/bin/bash\necho $1\n")
    assert ran("bash", "-c", "chmod +x s.sh; ./s.sh hello", cwd="/tmp")[1] == "hello\n"
    refused = ran("bash", "-c", "chmod 644 s.sh; ./s.sh; echo $?", cwd="/tmp")[1]
    assert refused == "bash: ./s.sh: Permission denied\n126\n"


def test_a_thousand_children_cost_linear_time(k):
    """A loop that forks a thousand times leaves no trace in the shell that slows it down."""
    k.write("/tmp/loop.sh", "for i in " + " ".join("x" * 1000) + "; do /bin/true; done; echo done\n")
    process = k.spawn("bash", "loop.sh", cwd="/tmp")
    assert process.wait() == 0
    assert process.text == "done\n"


@pytest.mark.parametrize("line", ["echo 'a", 'echo "a', "if true; then", "a &&", "(", "for x in", "echo $("])
def test_unfinished_lines_ask_for_more(line: str):
    """A line that can go on is told apart from one that is wrong."""
    with pytest.raises(ShellSyntaxError) as error:
        parse(line)
    assert error.value.more


@pytest.mark.parametrize("line", ["; a", "a | | b", ")", "fi", "> ;", "a && && b", "${a b}"])
def test_wrong_lines(line: str):
    """What cannot become a command is a syntax error."""
    with pytest.raises(ShellSyntaxError) as error:
        parse(line)
    assert not error.value.more


@given(st.text(alphabet="ab1 \t\n;&|<>(){}$`'\"\\\\!#=*?-if then else fi do done while for in", max_size=60))
def test_any_text_is_parsed_or_refused(text: str):
    """No text makes the parser fail in another way than by saying so."""
    try:
        said = str(parse(text))
    except ShellSyntaxError as error:
        said = str(error)
    assert said
