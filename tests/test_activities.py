"""What takes long says so, to whoever listens."""

from selftaught import activities
from selftaught.activities import Activity, activity


def test_activities_lie_in_one_another(monkeypatch):
    heard = []
    now = [0.0]
    monkeypatch.setattr(activities.time, "monotonic", lambda: now[0])
    with activity(heard.append, "outer", 2) as outer:
        with activity(outer, "inner") as inner:
            inner.advance(1, 5)  # at once: it is not told
            now[0] += 1
            inner.advance(3, 5)
        outer.advance(1)
    try:
        with activity(heard.append, "failing"):
            raise ValueError
    except ValueError:
        pass
    told = Activity("outer", 0, 2)
    assert heard == [
        (told,),
        (told, Activity("inner")),
        (told, Activity("inner", 3, 5)),
        (told,),
        (Activity("outer", 1, 2),),
        (),
        (Activity("failing"),),
        (),
    ]
