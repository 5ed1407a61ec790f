"""Programs without faults: `echown run` finds nothing in them that fails.

Each is a script of a POSIX shell, which starts, uses and stops the program. `PORT` is a free port.
"""

import shutil
import socket
import tempfile
from pathlib import Path

import verdict

MAKEFILE = """\
all: one two three
one two three: ; @sleep 0.05; $(MAKE) --no-print-directory sub-$@ && echo $@ | cat > $@.out
sub-%: ; @true
"""

NGINX = """\
daemon off;
worker_processes 2;
pid nginx.pid;
error_log error.log;
events { worker_connections 64; }
http {
  access_log access.log;
  client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
  server { listen 127.0.0.1:PORT; root .; }
}
"""

WAIT = "until curl -s -o /dev/null http://127.0.0.1:PORT/; do sleep 0.1; done; "

# Faults that are really there, as strace shows: code, program, and what it does. docs/rationale.md says
# why each is true.
KNOWN = {
    ("double-close", "bash"): "bash 5.2 closes pipes of pipelines and substitutions twice",
    ("double-close", "tmux"): "libevent 2.1's event_reinit closes the pipe of its signals twice",
    ("exec-leak", "socat"): "socat's programs inherit an end of the pair by which its child says that it is ready",
    ("exec-leak", "tmux"): "libutempter runs its helper with all descriptors of tmux",
}

# Name, what has to be installed, files, script.
PROGRAMS = [
    (
        "git init, commit, clone, gc",
        ["git"],
        {},
        "git init -q a && cd a && git config user.name n && git config user.email n@example.org"
        " && for i in 1 2 3; do echo $i >f && git add f && git commit -q -m $i; done"
        " && git gc -q && cd .. && git clone -q a b && git -C b log --oneline | cat && git -C b fsck",
    ),
    ("make -j2, recursive", ["make"], {"Makefile": MAKEFILE}, "make -s -j2"),
    ("sh with exec 3>", [], {}, "exec 3>f; echo a >&3; ls >/dev/null; exec 3>&-; test -s f"),
    ("bash", ["bash"], {}, "bash -c 'for i in 1 2; do echo $i | cat; done; x=$(date | cat); echo ${#x}'"),
    (
        "ssh-agent, ssh-add",
        ["ssh-agent", "ssh-keygen"],
        {},
        "ssh-keygen -q -t ed25519 -N '' -f key && eval \"$(ssh-agent -s)\" && ssh-add -q key && ssh-add -l"
        " && ssh-agent -k",
    ),
    (
        "python3, threads and processes",
        ["python3"],
        {
            "a.py": "import concurrent.futures as f, json, ssl, sqlite3, tempfile\n"
            "if __name__ == '__main__':\n"
            "    with f.ProcessPoolExecutor(2) as pool: print(list(pool.map(abs, range(20))))\n"
            "    with sqlite3.connect('db') as db: db.execute('create table t (a)')\n"
            "    db.close()\n"
            "    with tempfile.TemporaryDirectory(): pass\n"
        },
        "/usr/bin/python3 a.py",
    ),
    (
        "python3 -m http.server",
        ["python3", "curl"],
        {"f": "text\n"},
        "/usr/bin/python3 -m http.server --bind 127.0.0.1 PORT 2>/dev/null & "
        + WAIT
        + "for i in 1 2 3; do curl -sf http://127.0.0.1:PORT/f; done; kill $!; wait",
    ),
    ("node, start", ["node"], {}, "node -e 'fetch; console.log(process.version)'"),
    (
        "node, worker threads and a child",
        ["node"],
        {
            "a.mjs": "import { Worker } from 'node:worker_threads';\n"
            "import { spawnSync } from 'node:child_process';\n"
            "for (let i = 0; i < 2; i++)\n"
            "  await new Promise((end) => new Worker('1', { eval: true }).on('exit', end));\n"
            "spawnSync('sh', ['-c', 'echo a'], { stdio: ['pipe', 'pipe', 'inherit'] });\n"
        },
        "node a.mjs",
    ),
    (
        "go run, hello",
        ["go"],
        {"a.go": 'package main\n\nfunc main() { println("hello") }\n'},
        "go build -o a a.go && ./a",
    ),
    (
        "nginx",
        ["nginx", "curl"],
        {"nginx.conf": NGINX, "f": "text\n"},
        "mkdir tmp; nginx -p . -c nginx.conf & "
        + WAIT
        + "for i in 1 2 3 4 5 6; do curl -sf http://127.0.0.1:PORT/f; done; "
        "nginx -p . -c nginx.conf -s reload; sleep 0.3; curl -sf http://127.0.0.1:PORT/f; "
        "nginx -p . -c nginx.conf -s quit; wait",
    ),
    (
        "redis-server, redis-cli, redis-benchmark",
        ["redis-server"],
        {},
        "redis-server --port PORT --bind 127.0.0.1 --save '' --appendonly yes >log & "
        "until redis-cli -p PORT ping >/dev/null 2>&1; do sleep 0.1; done; "
        "redis-benchmark -q -p PORT -c 10 -n 500 -t set,get; redis-cli -p PORT bgsave; sleep 0.3; "
        "redis-cli -p PORT bgrewriteaof; sleep 0.3; redis-cli -p PORT shutdown; wait",
    ),
    (
        "cargo build",
        ["cargo"],
        {
            "Cargo.toml": '[package]\nname = "a"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n',
            "src/main.rs": 'fn main() {\n    println!("hello");\n}\n',
            "build.rs": "fn main() {}\n",
        },
        "CARGO_TARGET_DIR=target cargo build -q --offline && target/debug/a && cargo test -q --offline",
    ),
    (
        "tmux",
        ["tmux", "script"],
        {},
        "TMUX_TMPDIR=$PWD; export TMUX_TMPDIR; unset TMUX; "
        "tmux -L t -f /dev/null new-session -d 'sleep 1' \\; split-window 'ls' \\; pipe-pane 'cat >log'; "
        "tmux -L t list-sessions; tmux -L t run-shell 'echo a'; "
        "while tmux -L t list-sessions 2>/dev/null >&2; do sleep 0.2; done",
    ),
    ("script, a pseudoterminal", ["script"], {}, "script -qec 'stty -a' /dev/null </dev/null"),
    ("xargs -P, find -exec", ["xargs"], {}, "seq 40 | xargs -P4 -n2 echo | sort -n | tail -1; find . -exec ls {} +"),
    ("tar, gzip, sort", ["tar"], {"f": "b\na\n"}, "tar czf a.tgz f && tar xzOf a.tgz | sort | head -1"),
    ("perl", ["perl"], {}, "perl -e 'open(F,\"<\",$0);close F;print `echo a`;system(\"true\");open(P,\"-|\",\"ls\");<P>;close P'"),
    ("curl, file and http", ["curl"], {"f": "text\n"}, "curl -s file://$PWD/f; curl -s http://127.0.0.1:PORT/ || true"),
    ("socat, a relay", ["socat"], {}, "echo a | socat - EXEC:cat,pty,raw | cat"),
    ("strace, a nested tracer", ["strace"], {}, "strace -o log true || true"),
]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])


def run(table, echown, names):
    """Each program, without and with quarantine."""
    for name, tools, files, script in PROGRAMS:
        if names and not any(part in name for part in names):
            continue
        missing = [tool for tool in tools if shutil.which(tool) is None]
        if missing:
            table.skip(name, ", ".join(missing))
            continue
        for options in ([], ["--quarantine"]):
            run_one(table, echown, options, name, files, script)


def run_one(table, echown, options, name, files, script):
    title = " ".join([*options, name])
    with tempfile.TemporaryDirectory(prefix="echown-silent-") as folder:
        folder = Path(folder)
        port = free_port()
        for path, content in files.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_text(content.replace("PORT", port))
        try:
            command = ["sh", "-c", script.replace("PORT", port)]
            result = verdict.run(echown, options, command, 120, folder=folder)
        except verdict.Failed as error:
            table.add(title, "", [str(error)])
            return
    errors = result.findings("error")
    known = {reason for it in errors if (reason := known_reason(it))}
    faults = [verdict.summary(it) for it in errors if not known_reason(it)] + verdict.uncovered(result)
    if result.status != (23 if errors else 0):
        faults.append(f"exit status {result.status}: {result.output[-400:]}")
    warnings = [verdict.summary(it) for it in result.findings("warning")]
    table.add(title, f"{result.seconds:5.1f} s  {len(warnings)} warnings", faults)
    for line in [f"known: {it}" for it in sorted(known)] + [f"warning: {it}" for it in warnings]:
        print(f"    {line}")


def known_reason(finding):
    """What is known about a finding, or None."""
    return KNOWN.get((finding["code"], finding["process"]["program"].split("/")[-1]))
