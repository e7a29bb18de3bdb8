// Times and lengths of time in the reader's locale.
import { count } from "./format";

const momentFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** A moment, given in seconds since 1970. */
export function moment(seconds: number): string {
  return momentFormat.format(new Date(seconds * 1000));
}

const secondsFormat = new Intl.NumberFormat(undefined, { minimumFractionDigits: 1, maximumFractionDigits: 1 });

export function duration(seconds: number): string {
  // 59.6 would be 60 s.
  const whole = Math.round(seconds);
  if (whole < 60) return `${seconds < 10 ? secondsFormat.format(seconds) : count(whole)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${count(minutes)} min` : `${count(Math.floor(minutes / 60))} h ${count(minutes % 60)} min`;
}
