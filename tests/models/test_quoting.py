"""A secret reaches a command as itself, wherever its expression stands; or the expression is refused."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swamp.expressions.template import VaultGet, parse
from swamp.models.quoting import quoted

SHELLS = [shell for shell in ("/bin/sh", shutil.which("bash"), shutil.which("busybox")) if shell]
IT = "${{ vault.get('main', 'KEY') }}"
NASTY = "a  b'\"`$(touch traces)${HOME}$HOME\\n*;|&<>#!~(){}\n\tend"


def printed(shell: str, command: str, secret: str) -> str:
    """What the command prints that gets the secret."""
    run = [shell, "sh"] if shell.endswith("busybox") else [shell]
    script = quoted(parse(command), lambda _: "SWAMP_SECRET_1")
    assert secret not in script
    done = subprocess.run(
        [*run, "-c", script], env={"SWAMP_SECRET_1": secret, "X": "x"}, capture_output=True, check=False, cwd="/"
    )
    assert done.stderr == b"", script
    return done.stdout.decode()


PLACES: dict[str, str] = {
    f"printf %s {IT}": "{}",
    f"printf %s a{IT}b{IT}": "a{}b{}",
    f'printf %s "a {IT} b"': "a {} b",
    f"""printf %s '{{"a": "{IT}", "b": "$X"}}'""": '{"a": "{}", "b": "$X"}',
    f"printf %s {IT}'{IT}'\"{IT}\"": "{}{}{}",
    f'A={IT}; printf %s "$A"': "{}",
    f"A={IT} sh -c 'printf %s \"$A\"'": "{}",
    f"printf %s \"$(printf %s '{IT}')\"": "{}",
    f'printf %s "$(printf %s "$(printf %s {IT})")"': "{}",
    f"cat <<EOF\na {IT} \"b\" 'c' $X\nEOF\nprintf %s {IT}": "a {} \"b\" 'c' x\n{}",
    f"cat <<-EOF\n\ta {IT}\n\tEOF\n": "a {}\n",
    f"cat <<'END'; printf %s {IT}\ndon't \"\nEND\n": "don't \"\n{}",
    f"cat <<A; cat <<B\n{IT}\nA\n$(printf %s '{IT}')\nB\n": "{}\n{}\n",
    f"cat <<EOF\na\\\nEOF\nb {IT}\nEOF\n": "aEOF\nb {}\n",
    f"# don't {IT}\nprintf %s {IT} # it's": "{}",
    f"printf %s a#b'{IT}'": "a#b{}",
    f"case {IT} in x) ;; *) printf %s '{IT}';; esac": "{}",
    f"(printf %s {IT}); {{ printf %s '{IT}'; }}": "{}{}",
    f"printf %s ${{Y:-y}}$((1 + (2)))'{IT}'": "y3{}",
    f"printf %s \\'{IT}\\\"": "'{}\"",
    f"printf %s `printf b`{IT}": "b{}",
    f'f() {{ printf %s "$1"; }}; f {IT}': "{}",
    f"printf %s {IT} 2>/dev/null | cat": "{}",
    f'for i in {IT}; do printf %s "$i"; done': "{}",
    f'printf %s "$#$?"{IT}': "00{}",
    f"printf %s a \\\n  {IT}": "a{}",
}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("command", PLACES)
def test_the_value_comes_out_as_it_is(command: str, shell: str) -> None:
    assert printed(shell, command, NASTY) == PLACES[command].replace("{}", NASTY)


REFUSED = {
    f"cat <<'EOF'\n{IT}\nEOF": "in a here-document whose text is taken as it is (<<'EOF') (line 2)",
    f"cat <<\\EOF\n{IT}\nEOF": "in a here-document whose text is taken as it is",
    f"cat <<{IT}\nx\n": "in the word that ends a here-document",
    f"echo `echo {IT}`": "between backquotes",
    f'echo "`echo {IT}`"': "between backquotes",
    f"echo $(({IT} + 1))": "inside of $(( ))",
    f"echo ${{X:-{IT}}}": "inside of ${ }",
    f"echo \\{IT}": "right behind a \\",
    f'echo "\\{IT}"': "right behind a \\",
    f"echo ${IT}": "right behind a $",
    f'echo "${IT}"': "right behind a $",
    f"echo $(case x in x) echo 1;; esac) '{IT}'": "behind a case inside of $( )",
    f"echo $'it\\'s' '{IT}'": "behind $'…'",
    f"cat <<<'a' ; echo '{IT}'": "behind <<<",
    f"((x << 2))\necho {IT}": "behind ((",
    f"echo \"${{Y:-it's}}\" '{IT}'": 'behind quotes inside of "${ }"',
    f"cat <<EOF $(echo\n) {IT}\nEOF": "behind a here-document",
    f"echo $(cat <<EOF)\n{IT}\nEOF\n": "behind a here-document",
    f"echo 'it {IT}": "single quotes that do not end",
    f'echo "it {IT}': "double quotes that do not end",
    f"echo $(it {IT}": "$( ) that do not end",
}


@pytest.mark.parametrize("command", REFUSED)
def test_where_no_quoting_is_sure_to_be_right_it_is_refused(command: str) -> None:
    with pytest.raises(ValueError, match="holds") as refused:
        quoted(parse(command), lambda _: "V")
    assert REFUSED[command] in str(refused.value)


def test_each_reference_gets_its_own_variable() -> None:
    names = {VaultGet("a", "B"): "ONE", VaultGet("a", "C"): "TWO"}
    command = """x ${{vault.get("a","B")}} '${{ vault.get('a' , 'C') }}' ${{ vault.get('a', 'B') }}"""
    assert quoted(parse(command), names.__getitem__) == """x "${ONE}" ''"${TWO}"'' "${ONE}\""""


# ---------------------------------------------------------------------- any command

WORD = st.sampled_from(["a", "x=y", "b#", "it", "-", "{", "}", "=", "/", "%s", "é", IT, IT, IT])
WORDS = st.lists(WORD, max_size=4).map("".join)


def nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    commands = inner.map(lambda words: f"$(printf %s {words})")
    return st.one_of(
        st.lists(inner, max_size=2).map("".join),
        st.lists(WORD, max_size=4).map(lambda words: f"'{' '.join(words)}'"),
        st.lists(st.one_of(WORD, commands), max_size=3).map(lambda words: f'"{" ".join(words)}"'),
        inner.map(lambda words: f'"$(printf %s {words})"'),
        inner.map(lambda words: f'"$(cat <<E{len(words)}\n{words}\nE{len(words)}\n)"'),
    )


TEXTS = st.recursive(WORDS, nested, max_leaves=6)
SECRETS = st.text(st.sampled_from("a '\"`$(){}\\;&|<>*?#~!\n\té"), min_size=4, max_size=12)


@settings(max_examples=60, deadline=None)
@given(TEXTS, SECRETS)
def test_whatever_surrounds_it_the_command_sees_what_it_would_see_of_a_plain_word(text: str, secret: str) -> None:
    """Compared with the same command whose expressions stand for a word that needs no quoting."""
    command = f"printf '[%s]' {text}"
    plain = printed("/bin/sh", command, "plainword")
    ended = secret.rstrip("\n") or "x"  # a substitution takes newlines at its end away, whoever wrote them
    assert printed("/bin/sh", command, ended) == plain.replace("plainword", ended)
