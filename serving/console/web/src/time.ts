// Times and lengths of time in the reader's locale.
const momentFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** A moment, given in seconds since 1970. */
export function moment(seconds: number): string {
  return momentFormat.format(new Date(seconds * 1000));
}

const secondsFormat = new Intl.NumberFormat(undefined, { minimumFractionDigits: 1, maximumFractionDigits: 1 });

export function duration(seconds: number): string {
  if (seconds < 60) return `${seconds < 10 ? secondsFormat.format(seconds) : Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
