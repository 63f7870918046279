"""Puts secrets into a command for `sh` as references to variables, rightly quoted wherever they stand. Pure.

The value never becomes a part of the command's text, so nothing in it can be taken for syntax; what is decided here is
only how the reference must be quoted to be replaced by exactly the value:

    echo ${{ … }}              echo "${NAME}"
    echo "to ${{ … }}"         echo "to ${NAME}"
    echo '{"a": "${{ … }}"}'   echo '{"a": "'"${NAME}"'"}'
    cat <<EOF … ${{ … }}       cat <<EOF … ${NAME}

For that the text is read as POSIX shells read it. Where they disagree, or where no quoting is right, an expression is
refused: an error is better than a guess.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from swamp.expressions.template import Part, VaultGet

_HOLE = "\0"  # stands for an expression; no command holds that character
_BLANK = " \t\n;&|()<>"
_WORD_END = re.compile(f"[{_BLANK}]")
_HEREDOC = re.compile(r"<<(-?)[ \t]*")
_CASE = re.compile(r"case(?=\s)")


def quoted(parts: tuple[Part, ...], variable: Callable[[VaultGet], str]) -> str:
    """The command with each reference replaced by one to the variable that `variable` names.

    Raises `ValueError`, with the rest of a sentence that begins with the command's name, where that is impossible.
    """
    script = "".join(part if isinstance(part, str) else _HOLE for part in parts)
    holes = [part for part in parts if isinstance(part, VaultGet)]
    reader = _Reader(script, iter([(hole, variable(hole)) for hole in holes]), 1)
    reader.read()
    return reader.written


class _Reader:
    """Copies a script, or the body of a here-document, and fills its holes on the way."""

    def __init__(self, script: str, holes: Iterator[tuple[VaultGet, str]], line: int) -> None:
        self._script = script
        self._at = 0
        self._holes = holes
        self._first_line = line
        self._out: list[str] = []
        self._doubt = ""  # from here on nobody can tell for certain how the script is read, because of this
        self._waiting = 0  # here-documents of commands around this one, whose bodies come with the next line

    @property
    def written(self) -> str:
        return "".join(self._out)

    def read(self) -> None:
        self._commands(until="")

    # ------------------------------------------------------------------ places

    def _commands(self, until: str) -> None:
        """Outside of quotes, up to the end, or to the `)` that ends a substitution."""
        heredocs: list[tuple[str, bool, bool]] = []
        depth, at_word = 0, True
        while self._more:
            if at_word and until and _CASE.match(self._script, self._at):
                self._doubt = self._doubt or "a case inside of $( )"
            char = self._peek()
            starts_word = char in _BLANK
            if char == "\\":
                starts_word = at_word if self._peek(2) == "\\\n" else False
                self._escaped()
            elif char == "#" and at_word:
                self._comment()
            elif self._script.startswith("<<", self._at):
                heredocs += self._heredoc_operator()
            elif char == "\n":
                self._take()
                if heredocs:
                    self._bodies(heredocs)
                    heredocs = []
                elif self._waiting:
                    self._doubt = self._doubt or "a here-document that begins in the line of another command's"
            elif char == ")" and until and depth == 0:
                self._take()
                if heredocs:
                    self._doubt = self._doubt or "a here-document whose text is outside of its $( )"
                return
            elif char == "(":
                if self._peek(2) == "((":
                    self._doubt = self._doubt or "((, which not every sh takes for the same"
                depth += 1
                self._take()
            elif char == ")":
                depth = max(0, depth - 1)
                self._take()
            elif char == _HOLE:
                self._fill('"${%s}"')
            else:
                self._waiting += len(heredocs)
                self._one(char, quoted=False)
                self._waiting -= len(heredocs)
            at_word = starts_word
        if until:
            self._never_ends("$( )")

    def _one(self, char: str, *, quoted: bool) -> None:
        """A character that means something inside of double quotes too, or (unless `quoted`) begins quotes."""
        if char == "$":
            self._dollar(quoted=quoted)
        elif char == "`":
            self._backquotes()
        elif char == "'" and not quoted:
            self._single()
        elif char == '"' and not quoted:
            self._double()
        else:
            self._take()

    def _double(self) -> None:
        self._take()
        while self._more:
            char = self._peek()
            if char == '"':
                self._take()
                return
            self._in_double(char)
        self._never_ends("double quotes")

    def _in_double(self, char: str) -> None:
        if char == "\\":
            self._escaped()
        elif char == _HOLE:
            self._fill("${%s}")
        else:
            self._one(char, quoted=True)

    def _single(self) -> None:
        self._take()
        while self._more:
            char = self._peek()
            if char == _HOLE:
                self._fill("'\"${%s}\"'")
                continue
            self._take()
            if char == "'":
                return
        self._never_ends("single quotes")

    def _dollar(self, *, quoted: bool) -> None:
        rest = self._peek(3)
        if rest == "$((":
            self._take(3)
            self._arithmetic()
        elif rest.startswith("$("):
            self._take(2)
            self._commands(until=")")
        elif rest.startswith("${"):
            self._take(2)
            self._braces(quoted=quoted)
        else:
            if rest.startswith("$'") and not quoted:
                self._doubt = self._doubt or "$'…', which not every sh knows"
            self._take()
            if self._more and self._peek() == _HOLE:
                self._refuse("right behind a $", "write a \\ before the $, or leave it out")

    def _braces(self, *, quoted: bool) -> None:
        while self._more:
            char = self._peek()
            if char == "}":
                self._take()
                return
            if char == "\\":
                self._escaped()
            elif char == _HOLE:
                self._refuse("inside of ${ }")
            else:
                if quoted and char in "'\"":
                    self._doubt = self._doubt or 'quotes inside of "${ }"'
                self._one(char, quoted=quoted)
        self._never_ends("${ }")

    def _arithmetic(self) -> None:
        depth = 0
        while self._more:
            char = self._peek()
            if char == _HOLE:
                self._refuse("inside of $(( ))")
            if char == ")" and depth == 0:
                if self._peek(2) != "))":
                    self._doubt = self._doubt or "a $(( that does not end with ))"
                self._take(2)
                return
            depth += (char == "(") - (char == ")")
            if char in "'\"\\":
                self._doubt = self._doubt or "quotes inside of $(( ))"
            self._one(char, quoted=True)
        self._never_ends("$(( ))")

    def _backquotes(self) -> None:
        self._take()
        while self._more:
            char = self._peek()
            if char == _HOLE:
                self._refuse("between backquotes", "write $( ) instead of them")
            self._take(2 if char == "\\" and self._peek(2) != "\\" + _HOLE else 1)
            if char == "`":
                return
        self._never_ends("backquotes")

    def _comment(self) -> None:
        while self._more and self._peek() != "\n":
            if self._peek() == _HOLE:
                self._fill("${%s}")
            else:
                self._take()

    def _escaped(self) -> None:
        self._take()
        if self._more and self._peek() == _HOLE:
            self._refuse("right behind a \\", "leave that out")
        self._take()

    # ------------------------------------------------------------------ here-documents

    def _heredoc_operator(self) -> list[tuple[str, bool, bool]]:
        """The word that ends the document's text, whether the text is taken as it is, whether tabs before it go."""
        if self._script.startswith("<<<", self._at):
            self._doubt = self._doubt or "<<<, which not every sh knows"
            self._take(3)
            return []
        operator = _HEREDOC.match(self._script, self._at)
        begin = self._at + (len(operator[0]) if operator else 2)
        found = _WORD_END.search(self._script, begin)
        word = self._script[begin : found.start() if found else len(self._script)]
        self._take(begin - self._at)
        if _HOLE in word:
            self._take(word.index(_HOLE))
            self._refuse("in the word that ends a here-document")
        bare = re.sub(r"""\\(.)|["']""", r"\1", word)
        simple = word == bare or word in (f"'{bare}'", f'"{bare}"', f"\\{bare}")
        if not bare or not simple or "$" in word or "`" in word:
            self._doubt = self._doubt or "the word that ends a here-document"
            return []
        self._take(len(word))
        return [(bare, word != bare, bool(operator and operator[1]))]

    def _bodies(self, heredocs: list[tuple[str, bool, bool]]) -> None:
        for word, as_it_is, without_tabs in heredocs:
            end = self._end_of_body(word, as_it_is=as_it_is, without_tabs=without_tabs)
            body = self._script[self._at : end]
            inner = _Reader(body, self._holes, self._line)
            inner._doubt = self._doubt
            while inner._more:
                char = inner._peek()
                if not as_it_is:
                    inner._in_double(char)
                elif char == _HOLE:
                    inner._refuse(f"in a here-document whose text is taken as it is (<<'{word}')", f"write <<{word}")
                else:
                    inner._take()
            self._doubt = inner._doubt
            self._out.append(inner.written)
            self._at = end
            newline = self._script.find("\n", end)
            self._take((newline + 1 if newline >= 0 else len(self._script)) - end)

    def _end_of_body(self, word: str, *, as_it_is: bool, without_tabs: bool) -> int:
        """Where the line begins that ends the text; the script's length where there is none."""
        at, joined = self._at, False
        while at < len(self._script):
            newline = self._script.find("\n", at)
            line = self._script[at : newline if newline >= 0 else len(self._script)]
            if not joined and (line.lstrip("\t") if without_tabs else line) == word:
                return at
            # In text that is not taken as it is, a backslash at its end joins a line with the next one.
            joined = not as_it_is and (len(line) - len(line.rstrip("\\"))) % 2 == 1
            at += len(line) + 1
        return len(self._script)

    # ------------------------------------------------------------------ small things

    @property
    def _more(self) -> bool:
        return self._at < len(self._script)

    @property
    def _line(self) -> int:
        return self._first_line + self._script.count("\n", 0, self._at)

    def _peek(self, count: int = 1) -> str:
        return self._script[self._at : self._at + count]

    def _take(self, count: int = 1) -> None:
        self._out.append(self._peek(count))
        self._at += count

    def _fill(self, form: str) -> None:
        if self._doubt:
            self._refuse(f"behind {self._doubt}")
        _, name = next(self._holes)
        self._out.append(form % name)
        self._at += 1

    def _refuse(self, place: str, instead: str = "") -> None:
        hole, _ = next(self._holes)
        advice = f"{instead}, or give" if instead else "give"
        raise ValueError(
            f"holds {hole} {place} (line {self._line}), where no quoting is sure to be right: "
            f"{advice} it to the command as a variable, under 'env'"
        )

    def _never_ends(self, what: str) -> None:
        if not self._doubt:
            raise ValueError(f"holds an expression, and {what} that do not end")
