"""A process that trains, and is asked for a pass at a time."""

import json
import subprocess
import threading


class Failed(Exception):
    pass


def text(data):
    return (data.decode(errors="replace") if isinstance(data, bytes) else data) or ""


def end_of(log, lines=12):
    return "\n".join(text(log).splitlines()[-lines:])


class Contender:
    """A process that trains, a pass at a time."""

    def __init__(self, command, log, environment, limit):
        self.log, self.seconds = log, []
        with open(log, "w") as file:
            try:
                self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                                stderr=file, text=True, env=environment)
            except OSError as error:
                raise Failed(str(error)) from None
        self.ready = self.answer(limit)

    def answer(self, limit):
        """The next line; a process that takes too long is ended, which ends the waiting."""
        watch = threading.Timer(max(limit, 0), self.process.kill)
        watch.start()
        try:
            for line in self.process.stdout:
                if line.startswith('{"'):
                    return json.loads(line)
        finally:
            watch.cancel()
        code = self.process.wait()
        late = f"not done after {max(limit, 0):.0f} s" if code == -9 else f"ended with {code}"
        raise Failed(f"{late}: {end_of(self.log.read_text())}")

    def ask(self, what, limit):
        try:
            self.process.stdin.write(f"{what}\n")
            self.process.stdin.flush()
        except OSError:
            pass  # It has ended; its answer says why.
        return self.answer(limit)

    def turn(self, limit):
        self.seconds.append(self.ask("go", limit)["seconds"])

    def end(self):
        try:
            self.process.stdin.close()
        except OSError:
            pass
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
