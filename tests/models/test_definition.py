"""A model's YAML is read and written, its arguments are checked against its type, and a name belongs to one model."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swamp import yamlfile
from swamp.definitions import new_id
from swamp.errors import Invalid, NotFound
from swamp.models.catalog import delete_model, find_model, load_models, model_files, save_model
from swamp.models.definition import ModelDefinition, checks, document, invocation, parse_model
from swamp.models.types import find_type
from swamp.repo import Repo

ID = "0b54c9b6-3a0c-4b53-9d2f-52f5a0c2a111"
HEAD = f"type: command/shell\nid: {ID}\nname: echo\n"


def model(name: str = "echo", **arguments: object) -> ModelDefinition:
    return ModelDefinition("command/shell", new_id(), name, 1, {}, {}, {"execute": arguments})


def refusal(text: str) -> Invalid:
    with pytest.raises(Invalid) as refused:
        parse_model(text, "models/command/shell/echo.yaml")
    return refused.value


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo(tmp_path)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(lambda text: "${{" not in text)
KEY = TEXT.filter("<<".__ne__)
ARGUMENTS = st.dictionaries(KEY, TEXT | st.integers(-99, 99) | st.booleans() | st.dictionaries(KEY, TEXT, max_size=2))


@given(
    st.builds(
        ModelDefinition,
        type=st.sampled_from(["command/shell", "@acme/cloud/server"]),
        id=st.uuids().map(str),
        name=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True),
        version=st.integers(1, 99),
        tags=st.dictionaries(KEY, TEXT, max_size=3),
        global_arguments=ARGUMENTS,
        methods=st.dictionaries(KEY, ARGUMENTS, max_size=2),
    )
)
def test_a_model_that_is_written_is_read_back(model: ModelDefinition) -> None:
    assert parse_model(yamlfile.dump(document(model)), "x") == model


def test_only_type_id_and_name_are_needed() -> None:
    assert parse_model(HEAD, "x") == ModelDefinition("command/shell", ID, "echo", 1, {}, {}, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "verson: 2\n", "4: unknown key 'verson' in the model; did you mean 'version'?"),
        (HEAD + "methods:\n  execute:\n    run: x\n", "6: unknown key 'run' in method 'execute'"),
        (HEAD + "version: 0\n", "4: 'version' of the model must be 1 or more, not 0"),
        (HEAD + "tags: {a: [b]}\n", "4: 'a' in 'tags' of the model must be text, not a list"),
        (HEAD.replace("echo", "Echo"), "3: 'Echo' cannot be the name of a model"),
        (HEAD.replace("echo", "a/../b"), "3: 'a/../b' cannot be the name of a model"),
        (HEAD.replace("echo", "a" * 65), f"3: '{'a' * 65}' cannot be the name of a model"),
        (HEAD.replace("command/shell", "/etc"), "1: '/etc' cannot be the name of a model type"),
        (HEAD.replace(ID, "7"), "2: 'id' of the model must be text, not the number 7"),
        (HEAD.replace(ID, "seven"), "2: 'seven' is no id"),
        (
            HEAD + "methods:\n  execute:\n    arguments:\n      run: echo ${{ self.name }}\n",
            "7: the value holds ${{ self.name }}, which cannot be evaluated; "
            "the one expression there is: ${{ vault.get('<vault>', '<key>') }}",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, message: str) -> None:
    assert refusal(text).message == f"models/command/shell/echo.yaml:{message}"


def test_a_call_lays_inputs_over_the_models_arguments() -> None:
    shell = model(run="echo a", timeout=500, env={"A": "1", "B": "2"})
    call = invocation(shell, "execute", {"run": "echo b", "env": {"B": "3"}})
    assert call.arguments == {"run": "echo b", "timeout": 500, "env": {"A": "1", "B": "3"}}
    assert (call.model_id, call.model_name, call.model_type, call.method) == (
        shell.id,
        "echo",
        "command/shell",
        "execute",
    )
    assert shell.methods["execute"]["env"] == {"A": "1", "B": "2"}


def test_a_call_takes_over_the_models_tags() -> None:
    tagged = ModelDefinition("command/shell", ID, "echo", 1, {"team": "a"}, {}, {"execute": {"run": "x"}})
    assert invocation(tagged, "execute", {}).tags == {"team": "a"}


def test_a_wrong_call_lists_everything_that_is_wrong() -> None:
    with pytest.raises(Invalid) as refused:
        invocation(model(rum="echo", timeout=0, ignoreExitCode="perhaps"), "execute", {"workingDir": ""})
    assert refused.value.message == (
        "model 'echo': command/shell execute: unknown argument 'rum' (did you mean 'run'?), "
        "'timeout' must be 1 or more, "
        "'ignoreExitCode' must be true or false, 'workingDir' must not be empty, 'run' is missing"
    )


def test_an_unknown_method_or_type_names_the_nearest() -> None:
    with pytest.raises(NotFound, match=r"has no method 'exec'; did you mean 'execute'\?"):
        invocation(model(run="x"), "exec", {})
    with pytest.raises(NotFound, match=r"there is no model type 'comand/shell'; did you mean 'command/shell'\?"):
        find_type("comand/shell")


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"run": True}, {"run": "true"}),
        ({"run": 5}, {"run": "5"}),
        ({"run": "x", "env": {"PORT": 8080, "DEBUG": False}}, {"run": "x", "env": {"PORT": "8080", "DEBUG": "false"}}),
        ({"run": "x", "ignoreExitCode": "True"}, {"run": "x", "ignoreExitCode": True}),
    ],
)
def test_what_people_write_for_text_and_truth_values_is_understood(
    given: dict[str, object], taken: dict[str, object]
) -> None:
    assert find_type("command/shell").check("execute", given) == taken


@pytest.mark.parametrize(
    "given",
    [
        {"run": ""},
        {"run": 1.5},
        {"run": None},
        {"run": ["echo"]},
        {"run": "a\0b"},
        {"run": "echo ${{ x }}"},
        {"run": "x", "env": {"A": "${{ x }}"}},
        {"run": "x", "env": {"A": 1.10}},
        {"run": "x", "env": {"A=B": "1"}},
        {"run": "x", "env": {"": "1"}},
        {"run": "x", "env": "A=1"},
        {"run": "x", "timeout": True},
        {"run": "x", "timeout": "1s"},
        {"run": "x", "ignoreExitCode": 1},
    ],
)
def test_what_would_be_guessed_at_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        find_type("command/shell").check("execute", given)


def test_arguments_from_a_command_line_take_the_kind_of_the_argument() -> None:
    read = find_type("command/shell").read(
        "execute", ["run=echo a=b", "timeout=500", "ignoreExitCode=true", "env.A=1", "env.B=x=y"]
    )
    assert read == {"run": "echo a=b", "timeout": 500, "ignoreExitCode": True, "env": {"A": "1", "B": "x=y"}}
    assert find_type("command/shell").read("execute", ['env={"A": "1"}', "env.B=2"]) == {"env": {"A": "1", "B": "2"}}


@pytest.mark.parametrize("pair", ["run", "rum=x", "timeout=soon", "run.x=1", "env=A", "ignoreExitCode=maybe", "=x"])
def test_arguments_from_a_command_line_that_make_no_sense_are_refused(pair: str) -> None:
    with pytest.raises(Invalid):
        find_type("command/shell").read("execute", [pair])


def no_secrets(vault: str, key: str) -> str:
    raise AssertionError(f"{vault}/{key} was asked for")


def test_a_model_may_lack_what_the_inputs_of_a_step_bring() -> None:
    assert all(check.passed for check in checks(model(), no_secrets))
    assert [check.name for check in checks(model(timeout="soon"), no_secrets) if not check.passed] == [
        "Arguments of execute"
    ]


def test_a_stored_model_is_found_by_name_and_by_id(repo: Repo) -> None:
    shell = model(run="echo a")
    assert save_model(repo, shell) == repo.models / "command/shell/echo.yaml"
    assert find_model(repo, "echo") == find_model(repo, shell.id) == shell
    assert load_models(repo) == [shell]


def test_a_name_belongs_to_one_model_whatever_its_type(repo: Repo) -> None:
    save_model(repo, model(run="first"))
    other = ModelDefinition("other/type", new_id(), "echo", 1, {}, {}, {})
    with pytest.raises(Invalid, match=r"already exists: models/command/shell/echo\.yaml"):
        save_model(repo, other)
    assert find_model(repo, "echo").methods["execute"] == {"run": "first"}
    assert len(model_files(repo)) == 1


def test_of_many_who_take_a_name_at_once_one_succeeds(repo: Repo) -> None:
    outcomes: list[str] = []
    together = threading.Barrier(8)

    def create(number: int) -> None:
        together.wait()
        try:
            save_model(repo, ModelDefinition(f"type/t{number}", new_id(), "echo", 1, {}, {}, {}))
            outcomes.append("created")
        except Invalid:
            outcomes.append("refused")

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["created"] + ["refused"] * 7
    assert len(model_files(repo)) == 1


def test_an_unknown_model_names_the_nearest(repo: Repo) -> None:
    save_model(repo, model("remote-echo", run="x"))
    with pytest.raises(NotFound) as refused:
        find_model(repo, "remote-ehco")
    assert refused.value.message == "there is no model 'remote-ehco'; did you mean 'remote-echo'?"


def test_a_broken_file_does_not_hide_other_models(repo: Repo) -> None:
    shell = model(run="x")
    save_model(repo, shell)
    (repo.models / "command/shell/broken.yaml").write_text("a: b: c")
    assert find_model(repo, "echo") == find_model(repo, shell.id) == shell
    with pytest.raises(Invalid, match=r"models/command/shell/broken.yaml:1: this is not YAML"):
        find_model(repo, "broken")


def test_a_file_in_the_wrong_place_is_refused(repo: Repo) -> None:
    path = save_model(repo, model(run="x"))
    path.rename(path.with_name("other.yaml"))
    with pytest.raises(Invalid, match="belongs elsewhere") as refused:
        find_model(repo, "other")
    assert refused.value.hint == "move it to models/command/shell/echo.yaml, or correct its name or type"


def test_a_file_that_is_no_text_is_refused(repo: Repo) -> None:
    path = save_model(repo, model(run="x"))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(Invalid, match="is not UTF-8 text"):
        find_model(repo, "echo")


def test_a_deleted_model_is_gone(repo: Repo) -> None:
    path = save_model(repo, model(run="x"))
    delete_model(path)
    assert model_files(repo) == []
    with pytest.raises(NotFound):
        delete_model(path)
