// Traffic: requests, times, errors and unknown images, live and over the last day.
import { useMemo, useState } from "preact/hooks";
import { Chart, type Line } from "../chart";
import { count, rate, share } from "../format";
import { Failure, Loading } from "../parts";
import { usePolled } from "../polled";
import { moment } from "../time";

interface Series {
  requests: number[];
  refused: number[];
  errors: number[];
  ads: number[];
  images: number[];
  unknown_images: number[];
  p50: (number | null)[];
  p99: (number | null)[];
}

interface Answer {
  now: number;
  since: number;
  time: number[];
  seconds: number[];
  total: Series;
  versions: Record<string, Series>;
}

const SPANS = [
  { path: "/console/api/traffic/live", title: "Live: five minutes", seconds: 2 },
  { path: "/console/api/traffic", title: "24 hours", seconds: 30 },
];
const perSecondFormat = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 3 });
const perSecond = (value: number) => perSecondFormat.format(value);
const milliseconds = (value: number) => perSecondFormat.format(value);
const sum = (values: number[]) => values.reduce((total, value) => total + value, 0);

export function Traffic() {
  const [span, setSpan] = useState(SPANS[0]!);
  const [version, setVersion] = useState("");
  const { value, error } = usePolled<Answer>(span.path, span.seconds);
  return (
    <>
      <div class="heading">
        <h1>Traffic</h1>
        <p class="quiet">What this gateway was asked for scores and explanations, and how it answered. It counts from its own start.</p>
      </div>
      <div class="row">
        <div class="choices" role="group" aria-label="Stretch of time">
          {SPANS.map((one) => (
            <button key={one.path} type="button" class="plain" aria-pressed={one === span} onClick={() => setSpan(one)}>
              {one.title}
            </button>
          ))}
        </div>
        <label class="inline">
          Version{" "}
          <select value={version} onChange={(event) => setVersion(event.currentTarget.value)}>
            <option value="">All</option>
            {Object.keys(value?.versions ?? {})
              .sort((one, other) => Number(other) - Number(one))
              .map((one) => (
                <option key={one} value={one}>{one}</option>
              ))}
          </select>
        </label>
      </div>
      {error !== null && <Failure error={error} />}
      {value === null && error === null && <Loading what="Counting" />}
      {value !== null && <Charts answer={value} series={value.versions[version] ?? value.total} />}
    </>
  );
}

function Charts({ answer, series }: { answer: Answer; series: Series }) {
  const lines = useMemo(() => {
    const each = (values: number[]) => values.map((value, index) => (answer.seconds[index]! > 0 ? value / answer.seconds[index]! : null));
    const inMilliseconds = (values: (number | null)[]) => values.map((value) => (value === null ? null : value * 1000));
    const unknown = series.images.map((images, index) => (images > 0 ? series.unknown_images[index]! / images : null));
    return {
      requests: [{ label: "Requests", values: each(series.requests) }] as Line[],
      times: [
        { label: "Half within", values: inMilliseconds(series.p50) },
        { label: `${share(0.99)} within`, values: inMilliseconds(series.p99) },
      ] as Line[],
      failures: [
        { label: "Errors", values: each(series.errors) },
        { label: "Refused", values: each(series.refused) },
      ] as Line[],
      unknown: [{ label: "Unknown images", values: unknown }] as Line[],
    };
  }, [answer, series]);
  if (answer.time.length === 0) return <p class="quiet" role="status">Nothing is counted yet: the first point comes after the first minute.</p>;
  return (
    <div class="stack">
      <p class="quiet">
        {count(sum(series.requests))} requests, {count(sum(series.ads))} ads scored; {count(sum(series.errors))} errors, {count(sum(series.refused))} refused;{" "}
        {count(sum(series.unknown_images))} of {count(sum(series.images))} images unknown. Counted since {moment(answer.since)}.
      </p>
      <div class="charts">
        <Chart title="Requests" unit="a second" times={answer.time} lines={lines.requests} format={perSecond} />
        <Chart title="Time to answer" unit="milliseconds" times={answer.time} lines={lines.times} format={milliseconds} />
        <Chart title="Errors and refusals" unit="a second" times={answer.time} lines={lines.failures} format={perSecond} />
        <Chart title="Unknown images" unit="share of those given" times={answer.time} lines={lines.unknown} format={rate} />
      </div>
    </div>
  );
}
