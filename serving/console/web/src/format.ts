// Numbers in the reader's locale.

const percentFormats = [1, 2, 3, 4].map(
  (digits) => new Intl.NumberFormat(undefined, { style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits }),
);
const countFormat = new Intl.NumberFormat();
const signedFormat = new Intl.NumberFormat(undefined, { signDisplay: "exceptZero", minimumFractionDigits: 2, maximumFractionDigits: 2 });
const wholePercentFormat = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 0 });

/** A click rate, with three digits that say something. */
export function rate(value: number | null | undefined): string {
  if (value == null || !Number.isFinite(value)) return "not known";
  const size = Math.abs(value);
  return percentFormats[size >= 0.1 || size === 0 ? 0 : size >= 0.01 ? 1 : size >= 0.001 ? 2 : 3]!.format(value);
}

/** A difference of two rates, in percentage points. */
export function points(value: number): string {
  return signedFormat.format(value * 100);
}

export function share(value: number): string {
  return wholePercentFormat.format(value);
}

export function count(value: number): string {
  return countFormat.format(value);
}

export function signed(value: number): string {
  return signedFormat.format(value);
}

/** The month of a span such as 202610. */
export function month(span: number | null): string {
  if (span === null) return "last month";
  const date = new Date(Date.UTC(Math.floor(span / 100), (span % 100) - 1, 1));
  return new Intl.DateTimeFormat("en", { month: "long", year: "numeric", timeZone: "UTC" }).format(date);
}
