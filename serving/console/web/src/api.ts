// Asks the gateway, with the session's cookie; the token goes with what is no GET.

export interface Session {
  owner: string;
  token: string;
  ends: number | null;
}

export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly field: string,
  ) {
    super(message);
  }
}

let token = "";
let onSignedOut: () => void = () => {};

export function whenSignedOut(listener: () => void): void {
  onSignedOut = listener;
}

async function ask<T>(path: string, options: RequestInit): Promise<T> {
  let response: Response;
  try {
    response = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
  } catch {
    throw new Refusal(0, "unreachable", "The gateway does not answer. Is it running, and are you online?", "");
  }
  const body = await response.json().catch(() => null);
  if (response.ok && body !== null) return body as T;
  const error = body?.error ?? {};
  if (response.status === 401) onSignedOut();
  throw new Refusal(
    response.status,
    String(error.code ?? ""),
    String(error.message ?? `The gateway answered ${response.status}`),
    String(error.field ?? ""),
  );
}

export function get<T>(path: string): Promise<T> {
  return ask<T>(path, {});
}

export function post<T>(path: string, body: unknown, signal?: AbortSignal): Promise<T> {
  return ask<T>(path, {
    method: "POST",
    headers: { "content-type": "application/json", "x-csrf-token": token },
    body: JSON.stringify(body),
    signal,
  });
}

export async function session(): Promise<Session> {
  const known = await get<Session>("/console/api/session");
  token = known.token;
  return known;
}

export async function signIn(key: string): Promise<Session> {
  const known = await ask<Session>("/console/api/session", {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
    body: "{}",
  });
  token = known.token;
  return known;
}

export async function signOut(): Promise<void> {
  await post("/console/api/session/end", {});
  token = "";
}
