// The console's pages, in the order of the navigation. A new one is a file here and its line.
import type { ComponentType } from "preact";
import { Compare } from "./compare";
import { Models } from "./models";
import { Runs } from "./runs";
import { Traffic } from "./traffic";
import { Try } from "./try";

export const PAGES: { path: string; title: string; Page: ComponentType }[] = [
  { path: "try", title: "Try an ad", Page: Try },
  { path: "compare", title: "Compare creatives", Page: Compare },
  { path: "models", title: "Models", Page: Models },
  { path: "runs", title: "Runs", Page: Runs },
  { path: "traffic", title: "Traffic", Page: Traffic },
];
