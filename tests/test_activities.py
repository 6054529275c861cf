"""What takes long says so, to whoever listens and to nobody else."""

from selftaught import activities
from selftaught.activities import Activity, activity, listening


def test_activities_lie_in_one_another(monkeypatch):
    heard = []
    now = [0.0]
    monkeypatch.setattr(activities.time, "monotonic", lambda: now[0])
    with activity("nobody hears"), listening(heard.append):
        with activity("outer", 2) as advance:
            with activity("inner") as count:
                count(1, 5)  # at once: it is not told
                now[0] += 1
                count(3, 5)
            advance(1)
        with activity("again"):
            pass
    outer = Activity("outer", 0, 2)
    assert heard == [
        (outer,),
        (outer, Activity("inner")),
        (outer, Activity("inner", 3, 5)),
        (outer,),
        (Activity("outer", 1, 2),),
        (),
        (Activity("again"),),
        (),
    ]


def test_what_goes_wrong_inside_is_over():
    heard = []
    with listening(heard.append):
        try:
            with activity("failing"):
                raise ValueError
        except ValueError:
            pass
    assert heard[-1] == ()
