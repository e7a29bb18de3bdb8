// Models: which version is served to whom, how it was judged and what made it.
import { count, month, share } from "../format";
import { Failure, Lines, Loading, Marked } from "../parts";
import { usePolled } from "../polled";
import { Report } from "../report";
import { moment } from "../time";

interface Metric {
  name: string;
  title: string;
  meaning: string;
  value: number | null;
  lower: number | null;
  upper: number | null;
}

interface Version {
  version: number;
  place: "push_directory" | "held" | "withdrawn" | "model_server";
  pushed: number | null;
  answers: { route: string; label: string | null; percent: number; is_shadow: boolean }[];
  problem: string;
  span: number | null;
  metrics: Metric[];
  metrics_reason: string;
  audience_rows: number;
  run_id: string | null;
  has_report: boolean;
  months: string[];
  drift: string[];
  traffic: { made_at: number; predictions: number; state: string; judged: number; alarms: string[] } | null;
  traffic_reason: string;
}

interface Answer {
  model: string;
  versions: Version[];
  count: number;
  hold: { time: number; served: number; reason: string; by: string } | null;
  reason: string;
  runs_reason: string;
}

const PLACES = {
  push_directory: "In the push directory",
  held: "Held back by a roll-back",
  withdrawn: "Withdrawn by a roll-back",
  model_server: "Known to the model server alone",
};
/** Of the intervals of metrics. */
const CONFIDENCE = 0.95;
const numberFormat = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 4 });
const figure = (value: number | null) => (value === null ? "not defined" : numberFormat.format(value));

export function Models() {
  const { value, error } = usePolled<Answer>("/console/api/models", 15);
  return (
    <>
      <div class="heading">
        <h1>Models</h1>
        <p class="quiet">Which version answers whom, how it was judged on impressions that it had never seen, and what made it.</p>
      </div>
      {error !== null && <Failure error={error} />}
      {value === null && error === null && <Loading what="Looking for versions" />}
      {value !== null && (
        <div class="stack">
          {value.reason && <p class="notice">{value.reason}</p>}
          {value.runs_reason && <p class="notice"><Marked text={value.runs_reason} /></p>}
          {value.hold && (
            <p class="notice">
              Rolled back to version {value.hold.served} on {moment(value.hold.time)} by {value.hold.by}: {value.hold.reason}. Later versions are held
              back.
            </p>
          )}
          {value.versions.map((version) => (
            <VersionCard key={version.version} version={version} />
          ))}
          {value.count > value.versions.length && <p class="quiet">{count(value.count - value.versions.length)} older versions are not shown.</p>}
          {value.count === 0 && <p class="quiet">There is no version yet.</p>}
        </div>
      )}
    </>
  );
}

function VersionCard({ version }: { version: Version }) {
  return (
    <section class="card stack" aria-labelledby={`version-${version.version}`}>
      <div class="row">
        <h2 id={`version-${version.version}`}>Version {version.version}</h2>
        <span class="quiet small">
          {version.pushed !== null && `Pushed ${moment(version.pushed)} · `}
          {PLACES[version.place]}
        </span>
      </div>
      <p>
        {version.answers.length === 0
          ? "Answers nobody now."
          : version.answers.map((one) => (
              <span key={one.route} class="tag">
                {!one.is_shadow && <bdi title={one.route}>{one.route}</bdi>}
                {one.is_shadow ? `Shadow of ${share(one.percent / 100)} of requests` : `: ${share(one.percent / 100)} of users`}
                {one.label && <> (label <bdi>{one.label}</bdi>)</>}
              </span>
            ))}
      </p>
      {version.problem && <p class="warning">{version.problem}</p>}
      {version.metrics.length === 0 ? (
        <p class="quiet">No metrics: {version.metrics_reason}</p>
      ) : (
        <div class="scroll" tabIndex={0} role="region" aria-label={`Metrics of version ${version.version}`}>
          <table>
            <thead>
              <tr>
                <th scope="col">On held-out impressions of {month(version.span)}</th>
                <th scope="col" class="number">Value</th>
                <th scope="col" class="number">{share(CONFIDENCE)} interval</th>
              </tr>
            </thead>
            <tbody>
              {version.metrics.map((metric) => (
                <tr key={metric.name}>
                  <th scope="row">
                    {metric.title}
                    <span class="words">{metric.meaning}</span>
                  </th>
                  <td class="number">{figure(metric.value)}</td>
                  <td class="number span">{metric.lower !== null && metric.upper !== null ? `${figure(metric.lower)} to ${figure(metric.upper)}` : "none"}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      <p>
        <strong>Traffic against training.</strong>{" "}
        {version.traffic === null
          ? <Marked text={version.traffic_reason} />
          : `${version.traffic.state === "alarm" ? "Alarm" : version.traffic.state === "in_order" ? "In order" : "Not judged"}: ${count(version.traffic.judged)} checks of ${count(version.traffic.predictions)} predictions, ${moment(version.traffic.made_at)}.`}
      </p>
      <Lines lines={version.traffic?.alarms ?? []} />
      {version.months.length > 0 && (
        <p class="quiet">
          Made from {version.months.join(", ")} by run {version.run_id}.
        </p>
      )}
      <Lines lines={version.drift} />
      {version.run_id !== null && version.has_report && <Report run={version.run_id} />}
    </section>
  );
}

