"""Workers of this process: each opens the order anew, and is lost when a test says so."""

from dataclasses import dataclass, field

from flowprofile.flow.executors.orders import Done, Failed, Heard


class Lost(Exception):
    """The worker is gone."""


@dataclass
class Fresh:
    """Executes tasks one after the other, every group by a worker that has just begun."""

    workers: int = 2
    here: bool = True
    beside: int = 0
    before: object = staticmethod(lambda number: None)
    """Called before a group, with how many there were."""
    during: object = staticmethod(lambda number, event: None)
    """Called with everything a group says; a worker is lost where it raises `Lost`."""
    order: object = None
    groups: int = 0
    waiting: list = field(default_factory=list)
    took: list = field(default_factory=list)

    def start(self, order):
        self.order = order

    def submit(self, numbers, *, again):
        self.waiting.append((numbers, again))

    def results(self):
        from flowprofile.errors import FlowProfileError

        numbers, again = self.waiting.pop(0)
        number, self.groups = self.groups, self.groups + 1
        heard = Heard()
        self.took.append(numbers)

        def listen(event):
            heard(event)
            self.during(number, event)

        try:
            self.before(number)
            self.order.open()(numbers, listen, again=again)
        except Lost:
            return [Failed(numbers, None, "its process ended")]
        except FlowProfileError as error:
            return [Failed(numbers, error, str(error))]
        return [Done(numbers, 1.0, tuple(heard.committed), tuple(heard.told()))]

    def close(self):
        self.waiting.clear()
