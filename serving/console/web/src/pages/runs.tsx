// Runs: each run of the pipeline with its state, and what is at work now.
import { count } from "../format";
import { Failure, Lines, Loading, Marked } from "../parts";
import { usePolled } from "../polled";
import { Report } from "../report";
import { duration, moment } from "../time";

interface Step {
  name: string;
  state: string;
  seconds: number | null;
}

interface Run {
  run_id: string;
  state: string;
  months: string[];
  reasons: string[];
  notes: string[];
  drift: string[];
  started: number;
  finished: number | null;
  version: number | null;
  reused_everything: boolean;
  steps: Step[];
  has_report: boolean;
}

interface Answer {
  now: number;
  reason: string;
  runs: Run[];
  count: number;
  faults: string[];
}

const STATES: Record<string, string> = {
  running: "Running",
  pushed: "Pushed",
  held: "Blessed, but held back",
  data_refused: "Data refused",
  model_refused: "Model refused",
  failed: "Failed",
  killed: "Killed",
};

export function Runs() {
  const { value, error } = usePolled<Answer>("/console/api/runs", 3);
  return (
    <>
      <div class="heading">
        <h1>Runs</h1>
        <p class="quiet">Each run of the pipeline: what became of it and why, and what is at work now.</p>
      </div>
      {error !== null && <Failure error={error} />}
      {value === null && error === null && <Loading what="Looking for runs" />}
      {value !== null && (
        <div class="stack">
          {value.reason && <p class="notice"><Marked text={value.reason} /></p>}
          {value.faults.map((fault) => (
            <p key={fault} class="failure">{fault}</p>
          ))}
          {value.runs.map((run) => (
            <RunCard key={run.run_id} run={run} now={value.now} />
          ))}
          {value.count > value.runs.length + value.faults.length && (
            <p class="quiet">{count(value.count - value.runs.length - value.faults.length)} older runs are not shown.</p>
          )}
        </div>
      )}
    </>
  );
}

function RunCard({ run, now }: { run: Run; now: number }) {
  const done = run.steps.filter((step) => step.state === "done" || step.state === "reused").length;
  const atWork = run.steps.find((step) => step.state === "running" || step.state === "stopped");
  return (
    <article class="card stack" aria-labelledby={`run-${run.run_id}`}>
      <div class="row">
        <h2 id={`run-${run.run_id}`}>
          {STATES[run.state] ?? run.state}
          {run.months.length > 0 && `: ${run.months.at(-1)}`}
        </h2>
        <span class="quiet small">
          {run.run_id} · {moment(run.started)} · {duration((run.finished ?? now) - run.started)}
        </span>
      </div>
      {run.version !== null && (
        <p>
          Version {run.version}
          {run.reused_everything && ", which nothing has changed since"}.
        </p>
      )}
      {run.state === "running" && run.steps.length > 0 && (
        <p>
          <progress value={done} max={run.steps.length} aria-label={`Steps of run ${run.run_id}`} /> {count(done)} of {count(run.steps.length)} steps
          {atWork && `; at work: ${atWork.name}`}
        </p>
      )}
      {run.state !== "running" && atWork && <p>Ended in {atWork.name}.</p>}
      <Lines lines={[...run.reasons, ...run.drift, ...run.notes]} />
      {run.steps.length > 0 && (
        <details>
          <summary>Steps</summary>
          <table>
            <thead>
              <tr>
                <th scope="col">Step</th>
                <th scope="col">State</th>
                <th scope="col" class="number">Time</th>
              </tr>
            </thead>
            <tbody>
              {run.steps.map((step) => (
                <tr key={step.name}>
                  <th scope="row">{step.name}</th>
                  <td>{step.state}</td>
                  <td class="number">{step.seconds === null ? "" : duration(step.seconds)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </details>
      )}
      {run.has_report && <Report run={run.run_id} />}
    </article>
  );
}

