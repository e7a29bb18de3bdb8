// A chart over time, and the same as words for who does not see it.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

export interface Line {
  label: string;
  values: (number | null)[];
}

const DASHES = [[], [6, 4], [2, 3], [10, 3, 2, 3]];
const HEIGHT = 200;
const clockFormats = [
  new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" }),
  new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" }),
];

/** Times on an axis whose marks are so many seconds apart. */
function clock(ticks: number[], apart: number): string[] {
  return ticks.map((tick) => clockFormats[apart < 60 ? 1 : 0]!.format(tick * 1000));
}

export function Chart({ title, unit, times, lines, format }: { title: string; unit: string; times: number[]; lines: Line[]; format: (value: number) => string }) {
  const place = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const folder = place.current!;
    const colours = () => getComputedStyle(document.documentElement);
    const colour = (name: string) => colours().getPropertyValue(name).trim();
    const axis = { stroke: () => colour("--quiet"), grid: { stroke: () => colour("--line"), width: 1 }, ticks: { show: false } };
    const plot = new uPlot(
      {
        width: Math.max(folder.clientWidth, 100),
        height: HEIGHT,
        legend: { show: lines.length > 1, live: false },
        cursor: { show: false },
        scales: { y: { range: (_, __, most) => [0, most > 0 ? most * 1.1 : 1] } },
        axes: [{ ...axis, space: 90, values: (_, ticks, __, ___, apart) => clock(ticks, apart) }, { ...axis, size: 64, values: (_, ticks) => ticks.map((tick) => format(tick)) }],
        series: [
          {},
          ...lines.map((line, index) => ({
            label: line.label,
            stroke: () => colour(index === 0 ? "--accent" : index === 1 ? "--adds" : "--takes"),
            width: 2,
            dash: DASHES[index % DASHES.length],
            // A point between gaps is no line.
            points: { show: line.values.includes(null), size: 5 },
          })),
        ],
      },
      [times, ...lines.map((line) => line.values)],
      folder,
    );
    const observer = new ResizeObserver(() => plot.setSize({ width: Math.max(folder.clientWidth, 100), height: HEIGHT }));
    observer.observe(folder);
    const theme = matchMedia("(prefers-color-scheme: dark)");
    const redraw = () => plot.redraw();
    theme.addEventListener("change", redraw);
    return () => {
      observer.disconnect();
      theme.removeEventListener("change", redraw);
      plot.destroy();
    };
  }, [times, lines, format]);
  const said = lines.map((line) => {
    const known = line.values.filter((value): value is number => value !== null);
    return known.length === 0 ? `${line.label}: nothing` : `${line.label}: last ${format(known.at(-1)!)}, most ${format(Math.max(...known))}`;
  });
  return (
    <section class="card" aria-label={title}>
      <h2>
        {title} <span class="type">{unit}</span>
      </h2>
      <p class="hint">{said.join("; ")}</p>
      <div ref={place} class="chart" aria-hidden="true" />
    </section>
  );
}
