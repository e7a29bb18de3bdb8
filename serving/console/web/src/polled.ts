// What the gateway answers, asked again and again while the page is shown.
import { useEffect, useState } from "preact/hooks";
import { get } from "./api";

export interface Polled<T> {
  value: T | null;
  error: unknown;
}

/** The newest answer; a failure stands beside the last one that came. */
export function usePolled<T>(path: string, seconds: number): Polled<T> {
  const [state, setState] = useState<Polled<T>>({ value: null, error: null });
  useEffect(() => {
    let isShown = true;
    let timer = 0;
    setState({ value: null, error: null });
    const ask = async () => {
      try {
        const value = await get<T>(path);
        if (isShown) setState({ value, error: null });
      } catch (error) {
        if (isShown) setState((before) => ({ value: before.value, error }));
      }
      if (isShown) timer = setTimeout(ask, seconds * 1000);
    };
    void ask();
    return () => {
      isShown = false;
      clearTimeout(timer);
    };
  }, [path, seconds]);
  return state;
}
