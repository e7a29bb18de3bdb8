/** A bundle that must not run here; reason is one of serving/edge/errors.py's. */
export class BundleRefused extends Error {
  constructor(reason, message) {
    super(message);
    this.reason = reason;
  }
}

/** What was given is no picture, or one too large to decode. */
export class BrokenFrame extends Error {}
