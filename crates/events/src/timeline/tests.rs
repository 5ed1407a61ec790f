//! Tests of the model: states, ends, missing and late lines, selections.

use super::*;
use crate::test_lines::{CHILD, Lines, MAIN, story};

fn spans(resource: &Resource, tasks: &[Task]) -> Vec<String> {
    resource
        .spans
        .iter()
        .map(|span| {
            let owner = span.owner.map_or("none", |it| &*tasks[it].name);
            let Span { from, to, state, .. } = span;
            format!("{}..{} {state:?} {owner}", from.column, to.column)
        })
        .collect()
}

#[test]
fn a_recording_becomes_lanes_spans_marks_and_findings() {
    let timeline = Timeline::of(&story());
    assert_eq!(timeline.program.as_deref(), Some("a test"));
    let [three, four] = &timeline.lanes[..] else { panic!("two numbers: {:?}", timeline.lanes) };
    assert_eq!((three.name(), four.name()), ("fd 3".into(), "fd 4".into()));
    let [first, second] = &three.resources[..] else { panic!("two resources") };
    assert_eq!(spans(first, &timeline.tasks), ["2..4 Owned main", "4..8 Owned child"]);
    assert_eq!(first.end.map(|(at, end)| (at.column, end)), Some((8, End::Closed)));
    assert_eq!((first.generation, second.generation), (1, 2));
    assert_eq!(second.end, None);
    assert_eq!(spans(second, &timeline.tasks), ["9..12 Owned main"]);
    let expected = ["3..6 Owned main", "6..7 Offered main", "7..11 Owned child"];
    assert_eq!(spans(&four.resources[0], &timeline.tasks), expected);
    assert_eq!(four.resources[0].findings, [0]);
    assert_eq!(timeline.findings[0].resources, [(1, 0)]);
    let child = &timeline.tasks[1];
    assert_eq!((child.parent, child.start.map(|it| it.column)), (Some(0), Some(5)));
    assert_eq!(child.end.as_ref().map(|(_, how)| &**how), Some("returned"));
}

#[test]
fn halves_are_in_the_lane_of_their_whole() {
    let mut lines = Lines::new();
    lines.acquired((1, 3), MAIN);
    for (id, half) in [(2, "read"), (3, "write")] {
        let line = lines.acquired((id, 3), MAIN);
        (line.half_of, line.half) = (Some(1), Some(half.into()));
    }
    lines.ended(Kind::Split, (1, 3), MAIN);
    lines.step(Kind::Given, (3, 3), MAIN, CHILD).half_of = Some(1);
    lines.step(Kind::Transferred, (3, 3), CHILD, MAIN).half_of = Some(1);
    lines.ended(Kind::Rejoined, (2, 3), MAIN).half_of = Some(1);
    // The other half's line is missing.
    lines.step(Kind::Rejoined, (1, 3), (0, ""), MAIN);
    lines.ended(Kind::Dropped, (1, 3), MAIN);
    let timeline = Timeline::of(&lines.0);
    assert_eq!(timeline.lanes.len(), 1);
    let [whole, read, write] = &timeline.lanes[0].resources[..] else { panic!("one, two halves") };
    let expected = ["1..4 Owned main", "4..8 Split none", "8..9 Owned main"];
    assert_eq!(spans(whole, &timeline.tasks), expected);
    assert_eq!(read.end.map(|(at, end)| (at.column, end)), Some((7, End::Rejoined)));
    assert_eq!(write.end.map(|(at, end)| (at.column, end)), Some((8, End::Rejoined)));
    assert_eq!((read.generation, write.generation), (1, 1));
    assert_eq!(whole.end.map(|(_, end)| end), Some(End::Closed));
}

#[test]
fn missing_lines_leave_no_wrong_owner() {
    let mut lines = Lines::new();
    // The acquisition is missing.
    lines.step(Kind::Given, (1, 3), MAIN, CHILD);
    lines.push(Kind::Lost).count = Some(5);
    // Its end is missing, too; the number has another resource.
    lines.acquired((2, 3), MAIN);
    let timeline = Timeline::of(&lines.0);
    let [first, second] = &timeline.lanes[0].resources[..] else { panic!("two resources") };
    assert_eq!(spans(first, &timeline.tasks), ["1..3 Owned child"]);
    assert_eq!(first.end.map(|(at, end)| (at.column, end)), Some((3, End::Unknown)));
    assert_eq!(second.generation, 2);
    assert_eq!(timeline.lost_count(), 5);
}

#[test]
fn a_close_that_comes_after_the_next_acquisition_is_still_a_close() {
    let mut lines = Lines::new();
    lines.acquired((1, 3), MAIN);
    lines.acquired((2, 3), CHILD);
    lines.ended(Kind::Released, (1, 3), MAIN);
    let timeline = Timeline::of(&lines.0);
    let [first, second] = &timeline.lanes[0].resources[..] else { panic!("two resources") };
    assert_eq!(first.end.map(|(at, end)| (at.column, end)), Some((2, End::Closed)));
    assert_eq!(second.end, None);
}

#[test]
fn every_order_of_lines_gives_spans_that_follow_each_other() {
    let lines = story();
    orders(lines.len(), |order| {
        let shuffled: Vec<_> = order.iter().map(|index| lines[*index].clone()).collect();
        let timeline = Timeline::of(&shuffled);
        for (_, resource) in timeline.resources() {
            for pair in resource.spans.windows(2) {
                assert_eq!(pair[0].to, pair[1].from);
            }
            for span in &resource.spans {
                assert!(span.from.column <= span.to.column, "{resource:?}");
                assert!(span.from.time_ns <= span.to.time_ns, "{resource:?}");
            }
        }
    });
}

/// 500 orders of `count` indices from a small generator of random numbers.
fn orders(count: usize, mut each: impl FnMut(&[usize])) {
    let mut state = 1_u64;
    let mut order: Vec<_> = (0..count).collect();
    for _ in 0..500 {
        for index in (1..count).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            order.swap(index, (state >> 33) as usize % (index + 1));
        }
        each(&order);
    }
}

#[test]
fn what_is_replayed_was_there_from_the_beginning() {
    let mut lines = Lines::new();
    lines.acquired((1, 3), MAIN).replayed = Some(true);
    lines.push(Kind::Live);
    lines.ended(Kind::Released, (1, 3), MAIN);
    let timeline = Timeline::of(&lines.0);
    let resource = &timeline.lanes[0].resources[0];
    assert_eq!(spans(resource, &timeline.tasks), ["0..1 Owned main"]);
    assert_eq!(resource.marks.len(), 1, "only the release happened in the recording");
}

#[test]
fn a_selection_keeps_its_resources_their_findings_and_their_times() {
    let select = |selection: &Selection| Timeline::of(&story()).select(selection);
    let ids = |timeline: &Timeline| timeline.resources().map(|(_, it)| it.id).collect::<Vec<_>>();
    let by_task = select(&Selection { tasks: vec!["chi".into()], ..Selection::default() });
    assert_eq!(ids(&by_task), [1, 2]);
    assert_eq!(by_task.findings[0].resources, [(1, 0)]);
    let by_id = select(&Selection { resources: vec![3], ..Selection::default() });
    assert_eq!(ids(&by_id), [3]);
    assert!(by_id.findings.is_empty());
    let late = select(&Selection { from_ns: Some(8_500), ..Selection::default() });
    assert_eq!(ids(&late), [3, 2]);
    let open = &late.lanes[1].resources[0];
    assert_eq!((open.spans[0].from.time_ns, open.findings.as_slice()), (0, &[0][..]));
    assert_eq!(late.end.time_ns, 12_000 - 8_500);
    let early = select(&Selection { to_ns: Some(2_500), ..Selection::default() });
    assert_eq!(ids(&early), [1]);
    assert_eq!((early.findings.len(), early.end.time_ns), (0, 2_500));
    assert_eq!(early.lanes[0].resources[0].end, None);
}

#[test]
fn the_order_has_one_column_per_event_that_is_drawn() {
    let timeline = Timeline::of(&story());
    let order = timeline.order();
    assert_eq!(order.count(), 9, "eight steps and a finding");
    let columns: Vec<_> =
        timeline.resources().flat_map(|(_, it)| &it.marks).map(|it| order.column(it.at)).collect();
    assert_eq!(columns, [0, 2, 5, 6, 1, 3, 4, 7]);
}

#[test]
fn an_offer_that_the_parent_inherits_stays_an_offer() {
    let mut lines = Lines::new();
    lines.acquired((1, 3), CHILD);
    lines.ended(Kind::Offered, (1, 3), CHILD);
    lines.step(Kind::Inherited, (1, 3), CHILD, MAIN);
    lines.step(Kind::Claimed, (1, 3), MAIN, MAIN);
    lines.ended(Kind::Dropped, (1, 3), MAIN);
    let timeline = Timeline::of(&lines.0);
    let expected =
        ["1..2 Owned child", "2..3 Offered child", "3..4 Offered main", "4..5 Owned main"];
    assert_eq!(spans(&timeline.lanes[0].resources[0], &timeline.tasks), expected);
}

#[test]
fn a_parked_resource_is_in_the_lot_of_its_new_owner() {
    let mut lines = Lines::new();
    lines.acquired((1, 3), CHILD);
    lines.step(Kind::Parked, (1, 3), CHILD, MAIN);
    lines.step(Kind::Unparked, (1, 3), MAIN, CHILD);
    lines.ended(Kind::Released, (1, 3), CHILD);
    let timeline = Timeline::of(&lines.0);
    let resource = &timeline.lanes[0].resources[0];
    let expected = ["1..2 Owned child", "2..3 Parked main", "3..4 Owned child"];
    assert_eq!(spans(resource, &timeline.tasks), expected);
    assert!(resource.marks[1..3].iter().all(Mark::is_hand_over));
}

#[test]
fn every_resource_of_a_lane_has_its_generation_without_being_told() {
    let mut lines = Lines::new();
    for id in 1..=50_000 {
        lines.acquired((id, 3), MAIN);
        lines.ended(Kind::Dropped, (id, 3), MAIN);
    }
    let timeline = Timeline::of(&lines.0);
    let generations = timeline.lanes[0].resources.iter().map(|it| it.generation);
    assert!(generations.eq(1..=50_000));
}

#[test]
fn ids_of_a_tracer_are_unique_across_processes_and_lanes_name_the_process() {
    let task = |id, name: &str| Some(crate::TaskName { id, name: name.into() });
    let header = Line { source: Some("tracer".into()), ..Line::new(Kind::Recording, 0) };
    let step = |kind, process, resource| Line {
        process: Some(process),
        resource: Some(resource),
        number: Some(3),
        table: Some(process - 6),
        ..Line::new(kind, 1)
    };
    let lines = [
        header,
        Line { to: task(1, "sh 7"), ..step(Kind::Acquired, 7, 1) },
        Line { from: task(1, "sh 7"), to: task(2, "ls 8"), ..step(Kind::Acquired, 8, 2) },
        Line { resources: Some(vec![1]), ..Line::new(Kind::Leaked, 2) },
    ];
    let timeline = Timeline::of(&lines);
    let names: Vec<String> = timeline.lanes.iter().map(super::Lane::name).collect();
    assert_eq!(names, ["7 fd 3", "8 fd 3"]);
    assert_eq!(timeline.tasks.len(), 2, "a task of another process is the same task");
    assert_eq!(timeline.findings[0].resources, [(0, 0)]);
}
