// A request as people send it from elsewhere.
import { routeQuery } from "./form";
import { count } from "./format";

export interface Snippet {
  title: string;
  text: (body: unknown, route: string) => string;
}

const addressOf = (route: string) => `${location.origin}/v1/score${routeQuery(route)}`;

function pythonLiteral(value: unknown, indent = ""): string {
  const inner = `${indent}    `;
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return value.length ? `[${value.map((part) => pythonLiteral(part, indent)).join(", ")}]` : "[]";
  if (typeof value === "object") {
    const entries = Object.entries(value as object).map(([name, part]) => `${inner}${JSON.stringify(name)}: ${pythonLiteral(part, inner)},`);
    return entries.length ? `{\n${entries.join("\n")}\n${indent}}` : "{}";
  }
  return JSON.stringify(value);
}

export const SNIPPETS: Snippet[] = [
  {
    title: "curl",
    text: (body, route) =>
      [
        `curl '${addressOf(route)}' \\`,
        `  --header "Authorization: Bearer $ADCLICK_API_KEY" \\`,
        `  --header 'Content-Type: application/json' \\`,
        `  --data-binary @- <<'REQUEST'`,
        JSON.stringify(body),
        "REQUEST",
      ].join("\n"),
  },
  {
    title: "Python",
    text: (body, route) =>
      [
        "import json, os, urllib.request",
        "",
        `body = ${pythonLiteral(body)}`,
        "request = urllib.request.Request(",
        `    ${JSON.stringify(addressOf(route))},`,
        "    data=json.dumps(body).encode(),",
        `    headers={"Authorization": f"Bearer {os.environ.get('ADCLICK_API_KEY', '')}", "Content-Type": "application/json"},`,
        ")",
        "print(json.load(urllib.request.urlopen(request)))",
      ].join("\n"),
  },
  { title: "JSON", text: (body) => JSON.stringify(body, null, 2) },
];

/** A body whose images are cut, for reading alone. */
export function shortened(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shortened);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, part]) =>
      name === "b64" && typeof part === "string" && part.length > 60
        ? [name, `${part.slice(0, 40)}… (${count(part.length)} characters; all of them are copied)`]
        : [name, shortened(part)],
    ),
  );
}
