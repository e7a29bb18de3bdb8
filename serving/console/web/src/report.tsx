// A run's report, within the page: a frame that runs no scripts.
import { useState } from "preact/hooks";

export function Report({ run }: { run: string }) {
  const [open, setOpen] = useState(false);
  const address = `/console/api/runs/${encodeURIComponent(run)}/report`;
  return (
    <details onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>Report of run {run}</summary>
      {open && <iframe class="report" sandbox="" src={address} title={`Report of run ${run}`} />}
    </details>
  );
}
